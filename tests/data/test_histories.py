"""Tests of histories: returns, times and padding by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.histories import history, make_steps
from tskd_jax.data.trajectories import from_columns
from tskd_jax.policy import Bounds

# Two episodes, of 3 steps and of 2.
RECORDED = from_columns(
    observations=np.array([[1.0], [2], [3], [4], [5]]),
    actions=np.array([[0.0], [1], [4], [2], [9]]),
    rewards=np.array([1.0, 2, 4, -8, 16]),
    next_observations=np.array([[2.0], [3], [0], [5], [0]]),
    terminals=np.array([False, False, True, False, False]),
    lengths=[3, 2],
)


@pytest.fixture
def steps():
    mean, deviation = np.array([3.0], np.float32), np.array([2.0], np.float32)
    return make_steps(RECORDED, mean, deviation, Bounds((0.0,), (4.0,)), return_scale=2.0)


def test_a_dataset_by_hand(steps):
    # To the episode's end, over 2: 7, 6, 4 and 8, 16.
    assert steps.returns.tolist() == [3.5, 3, 2, 4, 8]
    assert steps.states[:, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    # 0 … 4 is -1 … 1, and what lies outside is moved to the bound.
    assert steps.actions[:, 0].tolist() == [-1, -0.5, 1, 0, 1]
    assert steps.times.tolist() == [0, 1, 2, 0, 1]


def test_a_history_ends_with_its_transition_and_stops_at_its_episodes_start(steps):
    found = history(steps, jnp.array([2, 1, 4, 3]), 3)
    assert found.exists.tolist() == [
        [True, True, True],
        [False, True, True],
        [False, True, True],
        [False, False, True],
    ]
    times = np.where(found.exists, found.steps.times, -1)
    assert times.tolist() == [[0, 1, 2], [-1, 0, 1], [-1, 0, 1], [-1, -1, 0]]
    returns = np.where(found.exists, found.steps.returns, 0)
    assert returns.tolist() == [[3.5, 3, 2], [0, 3.5, 3], [0, 4, 8], [0, 0, 4]]
    assert found.steps.states.shape == found.steps.actions.shape == (4, 3, 1)


def test_a_history_of_one_step_is_the_transition(steps):
    found = history(steps, jnp.arange(5), 1)
    assert found.exists.all()
    np.testing.assert_array_equal(found.steps.states[:, 0], steps.states)
