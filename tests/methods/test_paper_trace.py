"""The paper's settings, traced in full without being run: shapes, sizes and types fit together."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.config import finalize
from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.entries import get_task
from tskd_jax.models import cloning, cvae, dynamics, inverse_dynamics, value, wgan
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.teacher import (
    diffuser,
    lockstep,
    planning,
    reward_generator,
    trajectory_generator,
)
from tskd_jax.training import seeds
from tskd_jax.training.training import make_update

ROOT = Path(__file__).parents[2]


def traced(training):
    """(parameters, steps, shape of the keys) of a training whose update is traced in full."""
    one = training.keys.ravel()[0]
    data = jax.tree.map(jnp.asarray, training.seen_by((0,) * training.keys.ndim))
    params = jax.eval_shape(training.init, one)
    before = params, params, jax.eval_shape(training.optimizer.init, params)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    *after, updates, metrics = jax.eval_shape(
        lambda state, step: make_update(training)(*state, one, step, data), before, step
    )
    assert jax.tree.structure(tuple(after)) == jax.tree.structure(before)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(before), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    assert all(param.dtype == jnp.float32 for param in jax.tree.leaves(params))
    assert all((value.shape, value.dtype) == ((), jnp.float32) for value in metrics.values())
    return count_parameters(params), training.steps, training.keys.shape


def paper_config(environment):
    spec = importlib.util.spec_from_file_location(environment, ROOT / f"configs/{environment}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return finalize(module.get_config("paper"))[0]


def some_trajectories(task):
    rng = np.random.default_rng(0)
    lengths = np.array([120, 90])
    rows = lengths.sum()
    return from_columns(
        observations=rng.normal(size=(rows, task.state_size)),
        actions=rng.uniform(-1, 1, (rows, task.action_size)),
        rewards=rng.normal(size=rows),
        next_observations=rng.normal(size=(rows, task.state_size)),
        terminals=np.zeros(rows, bool),
        lengths=lengths,
    )


# D = m + 1 and 2m + 1; hopper m = 11, the others m = 17 (2m+1 = 35).
SIZES = {
    "hopper": (59_733_388, 59_743_255, 69_635),
    "halfcheetah": (59_738_770, 59_754_019, 71_942),
    "walker2d": (59_738_770, 59_754_019, 71_942),
}


@pytest.mark.slow
@pytest.mark.parametrize("environment", SIZES)
def test_paper_training_steps(environment):
    config, task = paper_config(environment), get_task(environment)
    data, keys = some_trajectories(task), jax.random.key(0)[None]
    generator, rewards = config.trajectory_generator, config.reward_generator
    trainings = [
        inverse_dynamics.training(config.inverse_dynamics, data, task, keys)[0],
        dynamics.training(config.dynamics, data, keys)[0],
        value.training(config.value, [data], keys),
        cvae.training(config.cvae, data, task, keys)[0],
        wgan.training(config.wgan, data, task, keys)[0],
        trajectory_generator.training(generator, data, None, None, keys)[0],
        reward_generator.training(rewards, data, keys)[0],
        cloning.training(config.student, [data], task, config.seeds),
    ]
    seen = {training.name: traced(training) for training in trainings}
    first, second, student = SIZES[environment]
    assert seen["trajectory_generator"] == (first, 1_000_000, (1, 1))
    assert seen["reward_generator"] == (second, 1_000_000, (1, 1))
    assert seen["student"] == (student, 100_000, (5,))
    assert seen["dynamics"][1:] == (200_000, (1, 7))
    assert seen["value"][1:] == (1_000_000, (1, 2))
    assert seen["inverse_dynamics"][1:] == (1_000_000, (1,))
    assert seen["cvae"][1:] == (400_000, (1,))
    assert seen["wgan"][1:] == (500_000, (1,))
    if environment == "hopper":
        assert seen["inverse_dynamics"][0] == 275_971
        assert seen["cvae"][0] == 41_999
        assert seen["wgan"][0] == 277_505 + 276_993


def shapes_of(model):
    """The same diffuser with parameters, of which there are shapes only: they are 60 M numbers."""
    keys = jax.random.key(0)[None]
    params = jax.eval_shape(lambda: diffuser.with_fresh_params(model, keys).params)
    return model.replace(params=params)


# Walker2d's sizes are HalfCheetah's.
@pytest.mark.parametrize("environment", ["hopper", "halfcheetah"])
def test_paper_generation(environment):
    """300 trajectories of 1000 steps, 200 guided denoising steps each: one traceable program."""
    config, task = paper_config(environment), get_task(environment)
    data = some_trajectories(task)
    generator = config.trajectory_generator
    labels = trajectory_generator.conditions(generator, data, None, 1)
    model = shapes_of(trajectory_generator.create(generator, data, None, labels))
    count, slots = 300, task.episode_limit + config.sampling.replan_every
    shape = jax.ShapeDtypeStruct
    progress = lockstep.Progress(
        states=shape((count, slots + generator.context, task.state_size), "f4"),
        rewards=shape((count, slots, 1), "f4"),
        actions=shape((count, slots, 0), "f4"),
        length=shape((count,), "i4"),
        terminal=shape((count,), "bool"),
        plan=jax.eval_shape(lambda: planning.no_plan(model, count)),
        key=shape((count, 2), "u4"),
        time=shape((), "i4"),
    )
    result = jax.eval_shape(
        lambda model, progress: lockstep.advance(
            model, config.sampling, task, task.episode_limit, progress, 1000, 0
        ),
        model,
        progress,
    )
    for made, given in zip(jax.tree.leaves(result), jax.tree.leaves(progress), strict=True):
        assert (made.shape, made.dtype) == (given.shape, given.dtype)
    pairs = shape((64, task.state_size), "f4")
    section = config.reward_generator
    labels = reward_generator.conditions(section, data, 1)
    model = shapes_of(reward_generator.create(section, data, labels))
    priced = jax.eval_shape(
        lambda model, s, t, k: reward_generator.rewards_of_batch(
            seeds.of_seed(model, 0), config.reward_sampling, s, t, k
        ),
        model,
        pairs,
        pairs,
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 64)),
    )
    assert priced.shape == (64,)
