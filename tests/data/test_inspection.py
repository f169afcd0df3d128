"""Statistics of a dataset: numbers that are known by construction."""

import numpy as np
import pytest

from tskd_jax.data.inspection import inspect, neighbourhoods
from tskd_jax.data.trajectories import from_columns


def episodes(states, lengths, actions=None):
    """States in the order of their rows; rewards of 1."""
    states = np.asarray(states, np.float64).reshape(sum(lengths), -1)
    terminals = np.zeros(len(states), bool)
    terminals[lengths[0] - 1] = True
    return from_columns(
        observations=states,
        actions=np.zeros((len(states), 1)) if actions is None else actions,
        rewards=np.ones(len(states)),
        next_observations=states,
        terminals=terminals,
        lengths=lengths,
    )


def test_numbers_and_names():
    states = np.stack([np.arange(101.0), np.full(101, 3.0)], 1)
    found = inspect(episodes(states, [21, 40, 40]), {"observations": ("x", "still")})
    assert (found["transitions"], found["episodes"]) == (101, 3)
    assert (found["terminal_episodes"], found["cut_episodes"]) == (1, 2)
    assert found["lengths"] == {"0": 21.0, "50": 40.0, "100": 40.0}
    moving, still = found["observations"]
    assert moving["name"] == "x"
    assert [moving[key] for key in ("min", "5%", "median", "95%", "max")] == [0, 5, 50, 95, 100]
    assert moving["deviation"] == pytest.approx(np.arange(101).std(), rel=1e-5)
    assert not moving["constant"]
    assert (still["name"], still["constant"], still["outliers"]) == ("still", True, 0.0)


def test_names_that_do_not_fit_are_left_out():
    found = inspect(episodes(np.zeros(4), [2, 2]), {"observations": ("x", "y")})
    assert found["observations"][0]["name"] == "observation_0"


def test_outliers():
    states = np.linspace(0, 1, 200)
    states[7] = 1000.0
    (one,) = inspect(episodes(states, [100, 100]))["observations"]
    assert one["outliers"] == pytest.approx(1 / 200)


def test_actions_at_their_ends():
    actions = np.linspace(-0.9, 0.9, 10)[:, None]
    actions[:3], actions[-1] = -1.0, 1.0
    (one,) = inspect(episodes(np.zeros(10), [5, 5], actions))["actions"]
    assert one["at_ends"] == pytest.approx(0.4)


def test_neighbours_are_of_other_episodes():
    # Every state of one episode has the twenty of the other at its own place, and its own
    # episode's, which do not count.
    states = np.zeros((40, 2))
    states[20:, 0] = 3.0
    found = neighbourhoods(episodes(states, [20, 20]), [2.9, 3.1], np.ones(2))
    assert found["neighbours"] == {"2.9": 0.0, "3.1": 20.0}
    assert found["alone"] == {"2.9": 1.0, "3.1": 0.0}
    assert found["suggested_radius"] == 3.0


def test_neighbours_in_deviations():
    states = np.zeros((40, 2))
    states[20:, 0] = 3.0
    found = neighbourhoods(episodes(states, [20, 20]), [1.1], np.array([3.0, 1.0]))
    assert found["neighbours"] == {"1.1": 20.0}
    assert found["suggested_radius"] == 1.0


def test_neighbours_far_from_the_origin():
    states = 0.05 * np.random.default_rng(0).normal(size=(400, 3)).astype(np.float32)
    near, far = (
        neighbourhoods(episodes(at, [200, 200]), [0.02], np.ones(3))
        for at in (states, states + 1e3)
    )
    assert far["suggested_radius"] == pytest.approx(near["suggested_radius"], rel=0.02)
    assert far["neighbours"]["0.02"] == pytest.approx(near["neighbours"]["0.02"], abs=1)


def test_too_few_states_for_a_radius():
    found = neighbourhoods(episodes(np.arange(10.0), [5, 5]), [100.0], np.ones(1))
    assert found["suggested_radius"] is None
    assert found["neighbours"] == {"100.0": 5.0}
