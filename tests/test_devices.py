"""Stages on eight simulated devices: the results of one device, and arrays that really are spread.

This file runs itself in a process that has eight devices, where each stage is run and written down.
"""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import ROOT

from tskd_jax import devices
from tskd_jax.stitching import best_neighbour, tile_search
from tskd_jax.student import behavioural_cloning
from tskd_jax.teacher import imagination, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.inverse_dynamics import create as create_inverse_dynamics
from tskd_jax.training import Hooks, fit, uniform_rows
from tskd_jax.types import Config

THERE = "TSKD_EIGHT_DEVICES"  # where the other process writes to
STAGES = ("training", "generation", "rewards", "search", "students", "members")


def run_stages(data, task, config: Config, seen) -> dict[str, np.ndarray]:
    """Results of every stage, by its name; `seen(name, array)` is told what should be spread."""
    results = {}

    def keep(name, tree):
        for i, leaf in enumerate(jax.tree.leaves(devices.fetch(tree))):
            results[f"{name}.{i}"] = leaf

    key = jax.random.key(0)
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, seen)
        generator = trajectory_generator.create(config.trajectory_generator, data)
        generator, _ = trajectory_generator.train(generator, data, key, Hooks())
        # What the network does: Adam turns gradients that are nothing but rounding (of a bias in
        # front of a norm) into steps, so that some parameters say nothing.
        x = jnp.linspace(-1, 1, 6 * 8 * 4).reshape(6, 8, 4)
        k, ones = jnp.arange(6), jnp.ones(6)
        keep("training", generator.network.apply(generator.params, x, k, ones, ones))

        f = create_inverse_dynamics(config.inverse_dynamics, data, task)
        starts = data.initial_observations[:13]
        imagined = imagination.imagine(generator, config.sampling, task, f, starts, key)
        keep("generation", (imagined.observations, imagined.rewards, imagined.lengths))

        pricer = reward_generator.create(config.reward_generator, data)
        pairs = data.observations[:13], data.next_observations[:13]
        keep(
            "rewards", reward_generator.rewards_between(pricer, config.reward_sampling, *pairs, key)
        )

        values = np.arange(data.size, dtype=np.float32)
        found, _ = best_neighbour(
            data.next_observations, data.observations, values, 0.4, backend="accelerator"
        )
        keep("search", found)

        def save(state):
            seen("students", jax.tree.leaves(state.params)[0])

        policies, _ = behavioural_cloning.train(
            "student", config.student, data, task, (3, 4), Hooks(save=save)
        )
        keep("students", [policy.weights for policy in policies])
        # As many members as devices: each has its own. 3 · 10 divides by nothing but 2.
        keep("members", (regress(8, 10, seen), regress(3, 10, lambda *about: None)))
    return results


def regress(members: int, batch_size: int, seen):
    """Parameters of so many linear regressions after 20 updates."""
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    return fit(
        "regression",
        lambda key: jax.random.normal(key, (3,)),
        lambda params, _ema, batch, _key: ((batch @ params - 1) ** 2).mean(),
        lambda data, key: uniform_rows(data, key, batch_size),
        x,
        optax.sgd(0.1),
        steps=20,
        key=jax.random.split(jax.random.key(1), members),
        hooks=Hooks(save=lambda state: seen("members", state.params)),
    ).params


def watch(patch, seen) -> None:
    """Look at what the stages' programs are given or give back."""

    def looking(place, attribute, name, part):
        inner = getattr(place, attribute)

        def looks(*arguments, **options):
            result = inner(*arguments, **options)
            seen(name, part(result))
            return result

        patch.setattr(place, attribute, looks)

    looking(imagination, "_advance", "generation", lambda progress: progress.states)
    looking(reward_generator, "_rewards", "rewards", lambda rewards: rewards)
    looking(tile_search, "_search", "search", lambda rank: rank)
    apply = Diffuser.apply

    def apply_and_look(self, params, x, *inputs):
        # Inside the compiled loop: what the network is really given.
        jax.debug.inspect_array_sharding(x, callback=lambda found: seen("training", found))
        return apply(self, params, x, *inputs)

    patch.setattr(Diffuser, "apply", apply_and_look)
    draw = behavioural_cloning.uniform_rows

    def draw_and_look(*arguments):
        batch = draw(*arguments)
        jax.debug.inspect_array_sharding(batch[0], callback=lambda found: seen("students", found))
        return batch

    patch.setattr(behavioural_cloning, "uniform_rows", draw_and_look)


@pytest.fixture(scope="module")
def short(tiny_config) -> Config:
    plain = tiny_config.to_dict()
    plain["trajectory_generator"] |= {"steps": 20}
    plain["student"] |= {"steps": 20, "batch_size": 32, "hidden": (16,)}
    return tiny_config.__class__(plain)


@pytest.mark.skipif(THERE not in os.environ, reason="run by this file in a process of its own")
def test_on_eight_devices(tiny_trajectories, tiny_task, short):
    assert jax.device_count() == 8
    specs = {name: set() for name in STAGES}

    def seen(name, found):
        sharding = found.sharding if isinstance(found, jax.Array) else found
        specs[name].add((tuple(sharding.mesh.shape.values()), tuple(sharding.spec)))

    results = run_stages(tiny_trajectories, tiny_task, short, seen)
    rows = {((1, 1, 8, 1), ("rows",))}
    assert specs == {
        "training": rows,
        "generation": rows,
        "rewards": rows,
        "search": rows,
        # Two seeds take half of the devices each; parameters are copied among those.
        "students": {
            ((1, 2, 4, 1), ("members", "rows")),
            ((1, 2, 4, 1), ("members",)),
        },
        "members": {((1, 8, 1, 1), ("members",))},
    }
    np.savez(os.environ[THERE], **results)  # pyright: ignore[reportArgumentType]


@pytest.mark.skipif(THERE in os.environ, reason="of the process with one device")
def test_every_stage_gives_the_results_of_one_device(tiny_trajectories, tiny_task, short, tmp_path):
    file = tmp_path / "eight.npz"
    environment = os.environ | {
        THERE: str(file),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    other = subprocess.Popen(
        [sys.executable, "-m", "pytest", f"{__file__}::test_on_eight_devices"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    one = run_stages(tiny_trajectories, tiny_task, short, lambda *about: None)
    told, _ = other.communicate()
    assert other.returncode == 0, told
    with np.load(file) as eight:
        assert sorted(eight.files) == sorted(one)
        for name, result in one.items():
            np.testing.assert_allclose(eight[name], result, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.parametrize(
    ("count", "members", "rows", "shape"),
    [
        (1, (5,), 256, (1, 1, 1, 1)),
        (8, (), 32, (1, 1, 8, 1)),
        (8, (5,), 256, (1, 1, 8, 1)),
        (8, (2,), 256, (1, 2, 4, 1)),
        (8, (16,), 256, (1, 8, 1, 1)),
        (8, (), 12, (1, 1, 4, 2)),
        (8, (6,), 3, (1, 2, 1, 4)),
        (64, (), 32, (1, 1, 32, 2)),
        (8, (), None, (1, 1, 8, 1)),
        (8, (4, 2), 256, (4, 2, 1, 1)),
        (8, (3, 2), 256, (1, 2, 4, 1)),
        (8, (2, 7), 256, (2, 1, 4, 1)),
    ],
)
def test_what_does_not_divide_is_repeated(monkeypatch, count, members, rows, shape):
    monkeypatch.setattr(jax, "device_count", lambda: count)
    monkeypatch.setattr(jax, "make_mesh", lambda shape, axes, axis_types: shape)
    assert devices.mesh(members, rows) == shape
    assert devices.padded(21) == {1: 21, 8: 24, 64: 64}[count]
