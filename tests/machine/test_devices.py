"""Stages on eight simulated devices: the results of one device, and arrays that really are spread.

This file runs itself in a process that has eight devices, where each stage is run and written down.
"""

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import ROOT

from tskd_jax.machine import devices
from tskd_jax.machine.types import Config
from tskd_jax.models import baseline as expectation
from tskd_jax.models import cloning as behavioural_cloning
from tskd_jax.models import dynamics
from tskd_jax.models.inverse_dynamics import create as create_inverse_dynamics
from tskd_jax.stitching import best_neighbour, tile_search
from tskd_jax.teacher import imagination, planner, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training.training import Hooks, fit, uniform_rows

THERE = "TSKD_EIGHT_DEVICES"  # where the other process writes to


def run_stages(data, task, config: Config, seen) -> dict[str, np.ndarray]:
    """Results of every stage, by its name; `seen(name, array)` is told what should be spread."""
    results = {}

    def keep(name, tree):
        for i, leaf in enumerate(jax.tree.leaves(devices.fetch(tree))):
            results[f"{name}.{i}"] = leaf

    key = jax.random.key(0)
    with pytest.MonkeyPatch.context() as patch:
        now = watch(patch, seen)
        generator = trajectory_generator.create(config.trajectory_generator, data)
        trained, _ = trajectory_generator.train(generator, data, key, Hooks())
        # What the network does: Adam turns gradients that are nothing but rounding (of a bias in
        # front of a norm) into steps, so that some parameters say nothing.
        x = jnp.linspace(-1, 1, 6 * 8 * 4).reshape(6, 8, 4)
        k, ones = jnp.arange(6), jnp.ones(6)
        keep("training", trained.network.apply(trained.params, x, k, ones, ones))

        def save_expectation(state):
            seen("expectation", jax.tree.leaves(state.params)[0])

        expected, _ = expectation.train(
            config.expectation, data, 0.99, Hooks(save=save_expectation)
        )
        keep("expectation", expectation.next_states(expected, data.observations))

        # Members of members: two seeds of an ensemble, of which each has its own rows.
        def save_ensembles(state):
            seen("ensembles", jax.tree.leaves(state.params)[0])

        ensembles = dynamics.train_seeds(
            config.dynamics, data, jax.random.split(key), Hooks(save=save_ensembles)
        )
        means = [dynamics.predictions(model, data.observations)[0] for model, _ in ensembles]
        keep("ensembles", means)

        # Of the untrained, which is the same on any number of devices.
        now["stage"] = "generation"
        f = create_inverse_dynamics(config.inverse_dynamics, data, task)
        starts = data.initial_observations[:13]
        imagined = imagination.imagine(generator, config.sampling, task, f, starts, key)
        keep("generation", columns_of(imagined))
        branches = imagination.imagine(
            generator, config.sampling, replace(task, episode_limit=1), f, starts, key
        )
        keep("branches", columns_of(branches))
        # Three seeds, of which each has five trajectories: neither divides eight devices.
        other = generator.replace(params=jax.tree.map(lambda leaf: 0.9 * leaf, generator.params))
        now["stage"] = "seeds"
        of_seeds = imagination.imagine_seeds(
            [generator, other, generator],
            config.sampling,
            task,
            [f] * 3,
            np.stack([starts[:5], starts[4:9], starts[8:13]]),
            jax.random.split(key, 3),
        )
        keep("seeds", [columns_of(of_seed) for of_seed in of_seeds])

        now["stage"] = "planner"
        act = planner.Planner(generator, config.sampling, f, key)
        keep("planner", [act(starts[:5], time) for time in range(2)])

        now["stage"] = "rewards"
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


def columns_of(data):
    """What is compared of trajectories."""
    return data.observations, data.actions, data.rewards, data.lengths


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


def watch(patch, seen) -> dict[str, str]:
    """Look at what programs are given or give back; `stage` says whose network is called."""
    now = {"stage": "training"}

    def looking(place, attribute, name, part):
        inner = getattr(place, attribute)

        def looks(*arguments, **options):
            result = inner(*arguments, **options)
            seen(name, part(result))
            return result

        looks.lower = inner.lower  # its memory is asked for before the call
        patch.setattr(place, attribute, looks)

    looking(imagination, "_advance", "generation", lambda progress: progress.states)
    looking(planner, "_plan", "planner", lambda result: result[1])
    looking(reward_generator, "_rewards", "rewards", lambda rewards: rewards)
    looking(tile_search, "_search", "search", lambda rank: rank)
    apply = Diffuser.apply

    def apply_and_look(self, params, x, *inputs):
        # Inside the compiled loop: what the network is really given.
        stage = f"network.{now['stage']}"
        jax.debug.inspect_array_sharding(x, callback=lambda found: seen(stage, found))
        return apply(self, params, x, *inputs)

    patch.setattr(Diffuser, "apply", apply_and_look)
    draw = behavioural_cloning.uniform_rows

    def draw_and_look(*arguments):
        batch = draw(*arguments)
        jax.debug.inspect_array_sharding(batch[0], callback=lambda found: seen("students", found))
        return batch

    patch.setattr(behavioural_cloning, "uniform_rows", draw_and_look)
    return now


@pytest.fixture(scope="module")
def short(tiny_config) -> Config:
    plain = tiny_config.to_dict()
    # An untrained network that answers with the velocity does not drive samples to their bounds.
    plain["trajectory_generator"] |= {"steps": 20, "prediction": "velocity"}
    plain["reward_generator"] |= {"prediction": "velocity"}
    few = {"steps": 20, "batch_size": 32, "hidden": (16,)}
    for name in ("student", "expectation", "dynamics"):
        plain[name] |= few
    plain["dynamics"] |= {"members": 4, "elites": 2}
    return tiny_config.__class__(plain)


@pytest.mark.skipif(THERE not in os.environ, reason="run by this file in a process of its own")
def test_on_eight_devices(tiny_trajectories, tiny_task, short):
    assert jax.device_count() == 8
    specs = defaultdict(set)

    def seen(name, found):
        sharding = found.sharding if isinstance(found, jax.Array) else found
        specs[name].add((tuple(sharding.mesh.shape.values()), tuple(sharding.spec)))

    results = run_stages(tiny_trajectories, tiny_task, short, seen)
    rows = {((1, 1, 8, 1), ("rows",))}
    assert specs == {
        "network.training": rows,
        "expectation": {((1, 2, 4, 1), ("members",))},
        "ensembles": {((2, 4, 1, 1), ("seeds", "members"))},
        "generation": rows,
        "network.generation": rows,
        "network.seeds": {((1, 1, 8, 1), (None, "rows"))},
        "planner": rows,
        "network.planner": rows,
        "rewards": rows,
        "network.rewards": rows,
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
            np.testing.assert_allclose(eight[name], result, rtol=1e-5, atol=1e-5, err_msg=name)


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
def test_what_does_not_divide_is_repeated(count, members, rows, shape):
    assert devices.shape_of(count, members, rows) == shape


def test_rows_are_padded_to_as_many_on_every_device(monkeypatch):
    for count, rows in ((1, 21), (8, 24), (64, 64)):
        monkeypatch.setattr(jax, "device_count", lambda count=count: count)
        assert devices.padded(21) == rows
