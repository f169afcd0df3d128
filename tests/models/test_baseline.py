"""What is expected of a state: the returns it is fitted to, the advantages made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from tskd_jax.data.trajectories import from_columns
from tskd_jax.models import baseline as expectation
from tskd_jax.training.training import Hooks

CONFIG = FrozenConfigDict(
    {"hidden": (32,), "steps": 400, "batch_size": 64, "learning_rate": 1e-2, "schedule": "cosine"}
)


def episodes(rewards, terminal, states=None, next_states=None):
    """One episode for each list of rewards."""
    lengths = np.array([len(some) for some in rewards])
    flat = np.concatenate(rewards)
    terminals = np.zeros(len(flat), bool)
    terminals[np.cumsum(lengths) - 1] = terminal
    states = np.zeros((len(flat), 2)) if states is None else states
    return from_columns(
        observations=states,
        actions=np.zeros((len(flat), 1)),
        rewards=flat,
        next_observations=states if next_states is None else next_states,
        terminals=terminals,
        lengths=lengths,
    )


def constant(trajectories, first, second):
    """A model whose two networks expect those returns, whatever the state, and no change."""
    model = expectation.create(CONFIG, trajectories, 0.5)
    params = jax.tree.map(jnp.zeros_like, model.params)
    bias = params["params"]["Dense_1"]["bias"]
    params["params"]["Dense_1"]["bias"] = bias.at[:, -1].set(jnp.array([first, second]))
    return model.replace(params=params, return_mean=np.float32(0), return_deviation=np.float32(1))


def test_bootstrapped_returns_by_hand():
    # γ = 1/2. To its terminal: 1 + 2/2 and 2. Cut short with a mean reward of 2, worth 2/(1 - 1/2)
    # = 4 beyond: 3 + 4/2 = 5, and 1 + 5/2 = 3.5.
    data = episodes([[1, 2], [1, 3]], [True, False])
    np.testing.assert_allclose(expectation.bootstrapped_returns(data, 0.5), [2, 2, 3.5, 5])


def test_only_recent_steps_stand_for_what_would_follow():
    # 100 steps of reward 1 behind 50 of reward 9.
    data = episodes([[9.0] * 50 + [1.0] * 100], [False])
    assert expectation.bootstrapped_returns(data, 0.5)[-1] == pytest.approx(1 + 0.5 * 2)


def test_advantages_by_hand():
    # V = 2, γ = λ = 1/2. Rewards 1, 4, then terminal: δ = 1 + 1 - 2 = 0 and 4 - 2 = 2, so
    # A = 0 + 2/4 and 2. Rewards 1, 4, then cut short: δ = 0 and 4 + 1 - 2 = 3, A = 3/4 and 3.
    data = episodes([[1, 4], [1, 4]], [True, False])
    model = constant(data, 2, 2)
    np.testing.assert_allclose(expectation.advantages(model, data, 0.5, 0.5), [0.5, 2, 0.75, 3])


def test_a_state_is_valued_by_the_network_that_has_not_seen_its_episode():
    data = episodes([[1.0] * 3] * 6, [True] * 6)
    half = expectation.half_of(data)
    assert sorted(np.bincount(half)) == [9, 9]
    assert all(len(set(half[start : start + 3])) == 1 for start in data.starts)
    model = constant(data, 5, 7)
    valued = expectation.unseen_values(model, data, data.observations)
    np.testing.assert_allclose(valued, np.where(half == 0, 7, 5))


def test_ranks_by_hand():
    # Of three: -1 + 1/3, 0 and 1 - 1/3.
    np.testing.assert_allclose(
        expectation.ranks(np.array([3.0, -1.0, 2.0])), [2 / 3, -2 / 3, 0], atol=1e-6
    )


def test_it_learns_what_a_state_explains_and_no_more():
    # s' - s = (s_0 / 2, noise), r = 1 where s_0 > 0; every transition is an episode.
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (2000, 2)).astype(np.float32)
    change = np.stack([states[:, 0] / 2, rng.normal(size=2000)], -1)
    data = episodes([[float(s > 0)] for s in states[:, 0]], [True] * 2000, states, states + change)
    model, figures = expectation.train(CONFIG, data, 0.9, Hooks())
    assert figures["return_explained"] > 0.8
    assert 0.4 < figures["change_explained"] < 0.6  # all of one dimension, nothing of the other
    expected = expectation.next_states(model, np.array([[0.8, 0.0]], np.float32))
    assert expected[0, 0] == pytest.approx(1.2, abs=0.05)


def test_a_single_episode_trains_both_networks():
    data = episodes([[1.0] * 5], [False])
    _, figures = expectation.train(CONFIG, data, 0.9, Hooks())
    assert all(np.isfinite(figure) for figure in figures.values())
