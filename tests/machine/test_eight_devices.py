"""Stages on eight simulated devices: the results of one device, and arrays that really are spread.

This file runs itself in a process that has eight devices, where each stage is run and recorded.
"""

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import ROOT

from tskd_jax.diffusion import guided
from tskd_jax.machine import devices, hlo
from tskd_jax.models import baseline, cloning, dynamics, inverse_dynamics
from tskd_jax.nn.unet import TemporalUNet
from tskd_jax.stitching import best_neighbour, tile_search
from tskd_jax.teacher import (
    diffuser,
    imagination,
    lockstep,
    planner,
    reward_generator,
    trajectory_generator,
)
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.chunk import chunk_of
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Training

RESULTS = "TSKD_EIGHT_DEVICES"  # the file that the other process writes


def run_stages(data, task, config: SimpleNamespace, seen) -> dict[str, np.ndarray]:
    """Results of every stage, by its name; `seen(name, array)` gets what should be spread."""
    results = {}

    def keep(name, tree):
        for i, leaf in enumerate(jax.tree.leaves(devices.fetch(tree))):
            results[f"{name}.{i}"] = leaf

    def saving(name):
        """Callbacks that look at the parameters of a training."""
        return TrainingCallbacks(save=lambda state: seen(name, jax.tree.leaves(state.params)[0]))

    key = jax.random.key(0)
    keys = key[None]
    with pytest.MonkeyPatch.context() as patch:
        now = watch(patch, seen)
        trained, _ = trajectory_generator.train(
            config.trajectory_generator, data, None, None, keys=keys
        )
        # What the network does: Adam turns gradients that are nothing but rounding (of a bias in
        # front of a norm) into steps, so that some parameters mean nothing.
        x = jnp.linspace(-1, 1, 6 * 8 * 4).reshape(6, 8, 4)
        k, ones = jnp.arange(6), jnp.ones(6)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), trained.params)
        keep("training", jax.jit(trained.network.apply)(params, x, k, ones, ones))

        baselines, _ = baseline.train(
            config.baseline, data, 0.99, keys=keys, callbacks=saving("baseline")
        )
        keep("baseline", baseline.next_states(seeds.of_seed(baselines, 0), data.observations))

        # Two seeds of an ensemble, each with rows of its own.
        ensembles, _ = dynamics.train(
            config.dynamics, data, keys=jax.random.split(key), callbacks=saving("ensembles")
        )
        keep(
            "ensembles",
            [
                dynamics.predictions(seeds.of_seed(ensembles, seed), data.observations)[0]
                for seed in range(2)
            ],
        )

        # Of untrained models, which are the same on any number of devices.
        now["stage"] = "generation"
        labels = trajectory_generator.conditions(config.trajectory_generator, data, None, 1)
        generator = diffuser.with_fresh_params(
            trajectory_generator.create(config.trajectory_generator, data, None, labels), keys
        )
        f = inverse_dynamics.create(config.inverse_dynamics, data, task)
        f = f.replace(params=jax.jit(f.init)(key))
        starts = data.initial_observations[:13]
        imagined = imagination.imagine(
            generator, config.sampling, task, seeds.for_seeds(f, 1), starts[None], keys
        )
        keep("generation", [columns_of(one) for one in imagined])
        # Three seeds, each with five trajectories: neither divides eight devices.
        one = seeds.of_seed(generator, 0)
        other = one.replace(params=jax.tree.map(lambda leaf: 0.9 * leaf, one.params))
        now["stage"] = "seeds"
        by_seed = imagination.imagine(
            seeds.stack_seeds([one, other, one]),
            config.sampling,
            task,
            seeds.for_seeds(f, 3),
            np.stack([starts[:5], starts[4:9], starts[8:13]]),
            jax.random.split(key, 3),
        )
        keep("seeds", [columns_of(own) for own in by_seed])

        now["stage"] = "planner"
        act = planner.Planner(one, config.sampling, f, key)
        keep("planner", [act(starts[:5], time, np.zeros(5)) for time in range(2)])

        now["stage"] = "rewards"
        labels = reward_generator.conditions(config.reward_generator, data, 1)
        pricer = diffuser.with_fresh_params(
            reward_generator.create(config.reward_generator, data, labels), keys
        )
        pairs = data.observations[:13], data.next_observations[:13]
        keep(
            "rewards",
            reward_generator.rewards_between(
                seeds.of_seed(pricer, 0), config.reward_sampling, *pairs, key
            ),
        )

        values = np.arange(data.size, dtype=np.float32)
        found, _ = best_neighbour(
            data.next_observations, data.observations, values, 0.4, backend="accelerator"
        )
        keep("search", found)

        policies, _ = cloning.train(
            config.student, [data], task, (3, 4), callbacks=saving("students")
        )
        keep("students", [policy.weights for policy in policies])
        # As many members as devices: each has its own. 3 and 10 share only the divisor 2 with 8.
        keep("members", (regress((1, 8), 10, seen), regress((3,), 10, lambda *_: None)))
    return results


def columns_of(data):
    """What is compared of trajectories."""
    return data.observations, data.actions, data.rewards, data.lengths


def regress(members: tuple[int, ...], batch_size: int, seen):
    """Parameters of so many linear regressions after 20 updates."""
    x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    training = Training(
        name="regression",
        init=lambda key: jax.random.normal(key, (3,)),
        loss=lambda params, _ema, batch, _key: ((batch @ params - 1) ** 2).mean(),
        draw=lambda data, key: uniform_rows(data, key, batch_size),
        data=x,
        optimizer=optax.sgd(0.1),
        steps=20,
        keys=jax.random.split(jax.random.key(1), members),
    )
    return fit(training, TrainingCallbacks(save=lambda state: seen("members", state.params))).params


def watch(patch, seen) -> dict[str, str]:
    """Inspect what programs take or return; `stage` names the caller of the network."""
    now = {"stage": "training"}

    def inspect(place, attribute, name, part):
        inner = getattr(place, attribute)

        def inspecting(*arguments, **options):
            result = inner(*arguments, **options)
            seen(name, part(result))
            return result

        inspecting.lower = inner.lower  # its memory is measured before the call
        patch.setattr(place, attribute, inspecting)

    inspect(lockstep, "advance", "generation", lambda progress: progress.states)
    inspect(planner, "plan_step", "planner", lambda result: result[1])
    inspect(reward_generator, "rewards_of_batch", "rewards", lambda rewards: rewards)
    inspect(tile_search, "_search", "search", lambda rank: rank)
    apply = Diffuser.apply

    def apply_and_inspect(self, params, x, *inputs):
        # Inside the compiled loop: what the network really takes.
        stage = f"network.{now['stage']}"
        jax.debug.inspect_array_sharding(x, callback=lambda found: seen(stage, found))
        return apply(self, params, x, *inputs)

    patch.setattr(Diffuser, "apply", apply_and_inspect)
    draw = cloning.uniform_rows

    def draw_and_inspect(*arguments):
        batch = draw(*arguments)
        jax.debug.inspect_array_sharding(batch[0], callback=lambda found: seen("students", found))
        return batch

    patch.setattr(cloning, "uniform_rows", draw_and_inspect)
    return now


@pytest.fixture(scope="module")
def short(tiny_config) -> SimpleNamespace:
    sections = vars(tiny_config).copy()
    # An untrained network that predicts the velocity does not drive samples to their bounds.
    changes = {
        "trajectory_generator": {"steps": 20, "prediction": "velocity"},
        "reward_generator": {"prediction": "velocity"},
        "dynamics": {"members": 4, "elites": 2},
    }
    few = {"steps": 20, "batch_size": 32, "hidden": (16,)}
    for name in ("student", "baseline", "dynamics"):
        changes[name] = changes.get(name, {}) | few
    for name, fields in changes.items():
        sections[name] = replace(sections[name], **fields)
    return SimpleNamespace(**sections)


@pytest.mark.skipif(RESULTS not in os.environ, reason="run by this file in a process of its own")
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
        "baseline": {((1, 2, 4, 1), ("seeds", "members"))},
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
            ((2, 1, 4, 1), ("seeds", "rows")),
            ((2, 1, 4, 1), ("seeds",)),
        },
        "members": {((1, 8, 1, 1), ("seeds", "members"))},
    }
    # What an update sends, as the compiler has it, is the ring's sum of the gradients, and no more.
    training, _ = trajectory_generator.training(
        *(short.trajectory_generator, tiny_trajectories, None, None, jax.random.key(0)[None])
    )
    chunk = chunk_of(training)
    state, data = chunk.shapes()
    with devices.on(chunk.mesh):
        traced = chunk.program(state).trace(state, data, np.int32(1), np.float32(0))
        sent = hlo.read(traced.lower().compile().as_text()).of_loops().sent()
    gradients = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params))
    assert sent == pytest.approx(2 * 7 / 8 * gradients, rel=0.1)
    # Rows are sampled where they lie, with guidance, too: each with its condition, or all with one.
    x, of_each = devices.spread((jnp.ones((16, 4, 3)), jnp.ones(16)))
    network = TemporalUNet(features=8, multipliers=(1,), kernel_size=3)
    step = jnp.ones(1, jnp.int32)
    params = network.init(jax.random.key(0), x[:1], step, of_each[:1], of_each[:1])
    denoise = jax.jit(lambda x, step, y: guided(network.apply, params, y, 1.5)(x, step))
    for condition in (of_each, jnp.ones(1)):
        with devices.on(devices.mesh()):
            compiled = denoise.lower(x, step, condition).compile()
        assert hlo.read(compiled.as_text()).sent() == 0
        assert compiled.output_shardings.is_equivalent_to(x.sharding, 3)
    np.savez(os.environ[RESULTS], **results)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.skipif(RESULTS in os.environ, reason="for the process with one device")
def test_every_stage_gives_the_results_of_one_device(tiny_trajectories, tiny_task, short, tmp_path):
    file = tmp_path / "eight.npz"
    environment = os.environ | {
        RESULTS: str(file),
        "XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "pytest", f"{__file__}::test_on_eight_devices"]
    other = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    one = run_stages(tiny_trajectories, tiny_task, short, lambda *_: None)
    output, _ = other.communicate()
    assert other.returncode == 0, output
    with np.load(file) as eight:
        assert sorted(eight.files) == sorted(one)
        for name, result in one.items():
            # An array that is spread is summed in another order, and in the ten steps of what is
            # imagined, each of several passes of a network, the last digits grow.
            atol = 5e-3 if name.partition(".")[0] in ("generation", "seeds") else 1e-5
            np.testing.assert_allclose(eight[name], result, rtol=1e-5, atol=atol, err_msg=name)
