"""Warnings about datasets that are usable but look wrong."""

import numpy as np
import pytest

from tskd_jax.data.arrays import from_arrays
from tskd_jax.data.checks import dataset_warnings
from tskd_jax.policy import Bounds

ROWS = 2000


def warnings_of(ends=(999, 1999), **replaced):
    rng = np.random.default_rng(0)
    columns = {
        "observations": rng.normal(size=(ROWS, 2)).cumsum(0),
        "actions": rng.uniform(-1, 1, (ROWS, 3)),
        "rewards": rng.normal(size=ROWS),
        "terminals": np.isin(np.arange(ROWS), ends),
    } | replaced
    return dataset_warnings(from_arrays(columns), Bounds.symmetric(100.0, 3))


def test_what_is_right_is_silent():
    assert warnings_of() == []


def test_one_episode():
    (line,) = warnings_of(ends=(1999,))
    assert "it is one episode of 2000 transitions" in line
    assert "--config.dataset.episode=NAME" in line


@pytest.mark.parametrize(
    ("rows", "dimensions", "words"),
    [
        (
            [7],
            [1],
            ["action 1 lies in -0.996 … 0.998 in 99.8% of the", "-1 … 57.3; if"],
        ),
        ([7, 8], [0, 2], ["action 0", "reaches -1 … 57.3 (and 1 other dimensions alike); if"]),
        # What happens in one of a hundred rows is no glitch.
        (range(0, ROWS, 100), [1], []),
    ],
)
def test_spikes_in_the_actions(rows, dimensions, words):
    actions = np.random.default_rng(0).uniform(-1, 1, (ROWS, 3))
    actions[np.ix_(list(rows), dimensions)] = 57.3
    found = warnings_of(actions=actions)
    assert len(found) == bool(words)
    for word in words:
        assert word in found[0]


def test_an_action_that_is_hardly_ever_used_is_no_spike():
    actions = np.zeros((ROWS, 3))
    actions[7] = 1.0
    assert warnings_of(actions=actions) == []
