"""The paper's settings, traced in full without being run: shapes, sizes and types fit together."""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.config import finalize
from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.tasks import get_task
from tskd_jax.models import cloning as behavioural_cloning
from tskd_jax.models import dynamics, inverse_dynamics, value
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.teacher import imagination, reward_generator, trajectory_generator
from tskd_jax.training.training import Hooks

ROOT = Path(__file__).parents[1]


class Traced(Exception):
    """Training was traced in full."""


@pytest.fixture
def trace_only(monkeypatch):
    """fit() traces its compiled chunk for all steps and stops before it would run."""
    seen = {}

    def fit(name, init, loss, draw, data, optimizer, *, steps, key, **_others):
        def step(key, data):
            params = init(key)
            batch_key, loss_key = jax.random.split(key)
            grads = jax.grad(loss)(params, params, draw(data, batch_key), loss_key)
            return optimizer.update(grads, optimizer.init(params), params)[0], params

        one = key[0] if key.ndim else key
        updates, params = jax.eval_shape(step, one, jax.tree.map(jnp.asarray, data))
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        for update, param in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
            assert update.shape == param.shape
            assert update.dtype == param.dtype == jnp.float32
        seen[name] = (count_parameters(params), steps, key.shape)
        raise Traced

    monkeypatch.setattr("tskd_jax.training.seeds.fit", fit)
    return seen


def paper_config(environment):
    spec = importlib.util.spec_from_file_location(environment, ROOT / f"configs/{environment}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return finalize(module.get_config("paper"))


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


@pytest.mark.parametrize("environment", SIZES)
def test_paper_training_steps(environment, trace_only, monkeypatch):
    config, task = paper_config(environment), get_task(environment)
    data = some_trajectories(task)
    key, hooks = jax.random.key(0), Hooks()
    # Parameters of 60 M numbers are needed for their shapes only.
    monkeypatch.setattr(
        "tskd_jax.teacher.diffuser.jax.jit",
        lambda f, **_: lambda *args: jax.eval_shape(lambda key: f(key, *args[1:]), args[0]),
    )
    generator = trajectory_generator.create(config.trajectory_generator, data)
    rewards = reward_generator.create(config.reward_generator, data)
    trainings = {
        "inverse_dynamics": lambda: inverse_dynamics.train(
            inverse_dynamics.create(config.inverse_dynamics, data, task),
            config.inverse_dynamics,
            data,
            key,
            hooks,
        ),
        "dynamics": lambda: dynamics.train(config.dynamics, data, key, hooks),
        "value": lambda: value.train(config.value, data, key, hooks),
        "trajectory_generator": lambda: trajectory_generator.train(generator, data, key, hooks),
        "reward_generator": lambda: reward_generator.train(
            rewards, data, key, hooks, config.reward_sampling
        ),
        "student": lambda: behavioural_cloning.train(
            "student", config.student, data, task, (0, 1, 2, 3, 4), hooks
        ),
    }
    for training in trainings.values():
        with pytest.raises(Traced):
            training()
    assert set(trace_only) == set(trainings)
    first, second, student = SIZES[environment]
    assert trace_only["trajectory_generator"][:2] == (first, 1_000_000)
    assert trace_only["reward_generator"][:2] == (second, 1_000_000)
    assert trace_only["student"][0] == student
    assert trace_only["student"][2] == (5,)
    assert trace_only["dynamics"][2] == (7,)
    assert trace_only["value"][2] == (2,)
    if environment == "hopper":
        assert trace_only["inverse_dynamics"][0] == 275_971


@pytest.mark.parametrize("environment", SIZES)
def test_paper_generation(environment):
    """300 trajectories of 1000 steps, 200 guided denoising steps each: one traceable program."""
    config, task = paper_config(environment), get_task(environment)
    data = some_trajectories(task)
    small = trajectory_generator.create(
        config.trajectory_generator.copy_and_resolve_references().__class__(
            config.trajectory_generator.to_dict() | {"features": 8}
        ),
        data,
    )
    model = small.replace(config=config.trajectory_generator)
    model = model.replace(
        params=jax.eval_shape(lambda: model.init(jax.random.key(0), task.state_size + 1))
    )
    count, slots = 300, task.episode_limit + config.sampling.stride
    shape = jax.ShapeDtypeStruct
    progress = imagination._Progress(
        states=shape((count, slots + config.trajectory_generator.context, task.state_size), "f4"),
        rewards=shape((count, slots, 1), "f4"),
        length=shape((count,), "i4"),
        terminal=shape((count,), "bool"),
        plan=jax.eval_shape(lambda: trajectory_generator.no_plan(model, count)),
        key=shape((count, 2), "u4"),
        time=shape((), "i4"),
    )
    result = jax.eval_shape(
        lambda model, progress: imagination._advance(
            model, config.sampling, task, progress, 1000, 0
        ),
        model,
        progress,
    )
    assert result.states.shape == progress.states.shape
    assert result.rewards.shape == progress.rewards.shape
    pairs = shape((64, task.state_size), "f4")
    rewards = reward_generator.create(
        small.config.__class__(config.reward_generator.to_dict() | {"features": 8, "horizon": 101}),
        data,
    )
    priced = jax.eval_shape(
        lambda s, t, k: reward_generator._rewards(rewards, config.reward_sampling, s, t, k),
        pairs,
        pairs,
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 64)),
    )
    assert priced.shape == (64,)
