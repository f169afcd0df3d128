"""Tests of behavioural cloning: it fits, seeds are independent, and the fold changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.tasks import Task
from tskd_jax.models import cloning
from tskd_jax.models.cloning import fold, train
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Bounds
from tskd_jax.training.callbacks import TrainingCallbacks

TASK = Task("toy", "none", 3, Bounds.symmetric(0.5, 2), 10, 0.0, 1.0)
# A dimension of large units, one far from zero, one that never changes.
MEAN, DEVIATION = np.array([0.0, 100.0, 4.0]), np.array([50.0, 0.5, 0.0])


def expert(states: np.ndarray) -> np.ndarray:
    """Actions that a network can fit, within the bound of ½."""
    z = (states - MEAN) / np.where(DEVIATION > 0, DEVIATION, 1)
    return 0.4 * np.sin(np.stack([z[..., 0] + z[..., 1], z[..., 0] - z[..., 1]], -1))


def make_data(rows: int = 1000) -> Trajectories:
    states = MEAN + DEVIATION * np.random.default_rng(0).normal(size=(rows, 3))
    states = states.astype(np.float32)
    return from_columns(
        observations=states,
        actions=expert(states),
        rewards=np.zeros(rows),
        next_observations=states,
        terminals=np.zeros(rows, bool),
        lengths=[rows],
    )


def make_config(**fields) -> cloning.Config:
    return cloning.Config(**{"steps": 1000, "hidden": (64, 64), "learning_rate": 3e-3} | fields)


def test_it_learns_to_act():
    data = make_data()
    policies, (metrics,) = train(make_config(), [data], TASK, (0, 1))
    spread = np.square(data.actions - data.actions.mean(0)).mean()
    for policy in policies:
        assert np.square(policy(data.observations) - data.actions).mean() < 0.03 * spread
        assert (np.abs(policy(100 * data.observations)) <= TASK.bounds.high).all()
    assert 0 < metrics["loss"] < 0.1 * spread


def test_a_constant_dimension_that_moves_later_is_harmless():
    data = make_data()
    ((policy,), _) = train(make_config(steps=300), [data], TASK, (0,))
    moved = data.observations + np.array([0, 0, 1e-3], np.float32)
    assert np.abs(policy(moved) - policy(data.observations)).max() < 0.01


@pytest.mark.parametrize("normalize", [True, False])
def test_fold_is_the_network_on_standardised_states(normalize):
    network = MLP((16, 16), 2)
    params = network.init(jax.random.key(0), jnp.zeros((1, 3)))
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases count too
    states = make_data(50).observations
    mean = states.mean(0) if normalize else np.zeros(3, np.float32)
    deviation = np.array([50, 0.5, 1], np.float32) if normalize else np.ones(3, np.float32)
    bounds = Bounds.symmetric(0.5, 2)
    policy = fold(jax.tree.map(np.asarray, params), mean, deviation, bounds)
    output = network.apply(params, jnp.asarray((states - mean) / deviation))
    np.testing.assert_allclose(policy(states), 0.5 * np.tanh(output), atol=1e-4)
    assert policy.parameters == 3 * 16 + 16 + 16 * 16 + 16 + 16 * 2 + 2


def test_seeds_trained_together_are_those_trained_one_by_one():
    data, config = make_data(200), make_config(steps=40, hidden=(16, 16))
    seeds = (0, 1, 2, 3, 7)
    together, _ = train(config, [data], TASK, seeds)
    assert len(together) == 5
    actions = [policy(data.observations) for policy in together]
    # One stands for all: each costs a compilation.
    ((alone,), _) = train(config, [data], TASK, (7,))
    np.testing.assert_allclose(actions[4], alone(data.observations), atol=1e-4)
    for i in range(5):
        for j in range(i):
            assert np.abs(actions[i] - actions[j]).max() > 0.01


def test_students_of_data_of_their_own_are_those_trained_one_by_one():
    # Different numbers of rows, and other states: each has its own standardisation.
    few = make_data(150).replace(observations=3 + make_data(150).observations)
    datasets, config = [make_data(200), few], make_config(steps=40, hidden=(16, 16))
    together, _ = train(config, datasets, TASK, (3, 7))
    for policy, data, seed in zip(together, datasets, (3, 7), strict=True):
        ((alone,), _) = train(config, [data], TASK, (seed,))
        states = data.observations
        np.testing.assert_allclose(policy(states), alone(states), atol=1e-4)
    with pytest.raises(ValueError, match="2 datasets for 3 students"):
        train(config, datasets, TASK, (3, 7, 8))


def test_a_training_is_named_for_its_messages():
    assert cloning.training(make_config(), [make_data(20)], TASK, (0,)).name == "student"
    named = cloning.training(make_config(), [make_data(20)], TASK, (0,), "student.bc")
    assert named.name == "student.bc"


@pytest.mark.parametrize(
    ("name", "count"), [("hopper", 69_635), ("halfcheetah", 71_942), ("walker2d", 71_942)]
)
def test_the_papers_student_has_70k_parameters(name, count):
    task = TASKS[name]
    rng = np.random.default_rng(0)
    data = from_columns(
        observations=rng.normal(size=(20, task.state_size)),
        actions=rng.uniform(-1, 1, size=(20, task.action_size)),
        rewards=np.zeros(20),
        next_observations=np.zeros((20, task.state_size)),
        terminals=np.zeros(20, bool),
        lengths=[20],
    )
    ((policy,), _) = train(cloning.Config(steps=1), [data], task, (0,))
    assert policy.parameters == count
    assert policy(data.observations).shape == (20, task.action_size)


def test_progress_is_passed_on():
    seen = []
    callbacks = TrainingCallbacks(on_progress=lambda *report: seen.append(report))
    _, (metrics,) = train(make_config(steps=5), [make_data(20)], TASK, (0, 1), callbacks=callbacks)
    assert seen[-1][:2] == (5, 5)
    assert metrics["loss"] == seen[-1][2]["loss"]
