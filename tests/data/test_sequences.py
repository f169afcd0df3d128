"""Tests of sequences of tokens: values, ends and cuts by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.sequences import joined, make_rows, sequences
from tskd_jax.data.trajectories import from_columns

END = 9
# Three steps that the environment ended, and two that were cut.
RECORDED = from_columns(
    observations=np.array([[1.0], [2], [3], [4], [5]]),
    actions=np.array([[0.1], [0.2], [0.3], [0.4], [0.5]]),
    rewards=np.array([1.0, 2, 4, 8, 16]),
    next_observations=np.array([[2.0], [3], [0], [5], [0]]),
    terminals=np.array([False, False, True, False, False]),
    lengths=[3, 2],
)


def test_a_transition_is_state_action_reward_and_what_follows():
    # Half of what the next step is worth and so on: 2 + 4/2, 4, nothing; 16, nothing.
    expected = [[1, 0.1, 1, 4], [2, 0.2, 2, 4], [3, 0.3, 4, 0], [4, 0.4, 8, 16], [5, 0.5, 16, 0]]
    np.testing.assert_allclose(joined(RECORDED, 0.5, 0.0), expected, rtol=1e-6)


def test_an_end_is_punished_and_a_cut_is_not():
    found = joined(RECORDED, 0.5, 100.0)
    assert found[:, 2].tolist() == [1, 2, -100, 8, 16]
    assert found[:, 3].tolist() == [2 - 50, -100, 0, 16, 0]


@pytest.fixture
def rows():
    return make_rows(RECORDED, np.arange(5, dtype=np.int32)[:, None])


def test_a_sequence_goes_on_behind_an_end_and_not_behind_a_cut(rows):
    found = sequences(rows, jnp.array([0, 1, 2, 3, 4]), 3, END)
    assert found.tokens[..., 0].tolist() == [
        [0, 1, 2],
        [1, 2, END],
        [2, END, END],
        [3, 4, END],
        [4, END, END],
    ]
    assert found.counts.tolist() == [
        [True, True, True],
        [True, True, True],
        [True, True, True],
        [True, True, False],
        [True, False, False],
    ]
    # Rows for messages are those of the episode.
    assert found.row.tolist() == [[0, 1, 2], [1, 2, 2], [2, 2, 2], [3, 4, 4], [4, 4, 4]]
