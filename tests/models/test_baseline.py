"""The baseline: the returns it is fitted to, the advantages made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.trajectories import from_columns
from tskd_jax.models import baseline
from tskd_jax.training import seeds

CONFIG = baseline.Config(
    hidden=(32,), steps=400, batch_size=64, learning_rate=1e-2, schedule="cosine"
)
KEYS = jax.random.key(0)[None]


def episodes(rewards, terminal, states=None, next_states=None):
    """One episode for each list of rewards."""
    lengths = np.array([len(episode) for episode in rewards])
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
    """A model whose two networks predict those returns, whatever the state, and no change."""
    model = baseline.create(CONFIG, trajectories, 0.5)
    params = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 2))
    params = jax.tree.map(jnp.zeros_like, params)
    bias = params["params"]["Dense_1"]["bias"]
    params["params"]["Dense_1"]["bias"] = bias.at[:, -1].set(jnp.array([first, second]))
    return model.replace(params=params, return_mean=np.float32(0), return_deviation=np.float32(1))


def test_bootstrapped_returns_by_hand():
    # γ = 1/2. To its terminal: 1 + 2/2 and 2. Cut short with a mean reward of 2, worth 2/(1 - 1/2)
    # = 4 beyond: 3 + 4/2 = 5, and 1 + 5/2 = 3.5.
    data = episodes([[1, 2], [1, 3]], [True, False])
    np.testing.assert_allclose(baseline.bootstrapped_returns(data, 0.5), [2, 2, 3.5, 5])


def test_only_recent_steps_stand_for_what_would_follow():
    # 100 steps of reward 1 behind 50 of reward 9.
    data = episodes([[9.0] * 50 + [1.0] * 100], [False])
    assert baseline.bootstrapped_returns(data, 0.5)[-1] == pytest.approx(1 + 0.5 * 2)


def test_advantages_by_hand():
    # V = 2, γ = λ = 1/2. Rewards 1, 4, then terminal: δ = 1 + 1 - 2 = 0 and 4 - 2 = 2, so
    # A = 0 + 2/4 and 2. Rewards 1, 4, then cut short: δ = 0 and 4 + 1 - 2 = 3, A = 3/4 and 3.
    data = episodes([[1, 4], [1, 4]], [True, False])
    model = constant(data, 2, 2)
    np.testing.assert_allclose(baseline.advantages(model, data, 0.5, 0.5), [0.5, 2, 0.75, 3])


def test_a_state_is_valued_by_the_network_that_has_not_seen_its_episode():
    data = episodes([[1.0] * 3] * 6, [True] * 6)
    half = baseline.half_of(data)
    assert sorted(np.bincount(half)) == [9, 9]
    assert all(len(set(half[start : start + 3])) == 1 for start in data.starts)
    model = constant(data, 5, 7)
    valued = baseline.unseen_values(model, data, data.observations)
    np.testing.assert_allclose(valued, np.where(half == 0, 7, 5))


def test_ranks_by_hand():
    # Of three: -1 + 1/3, 0 and 1 - 1/3.
    np.testing.assert_allclose(
        baseline.ranks(np.array([3.0, -1.0, 2.0])), [2 / 3, -2 / 3, 0], atol=1e-6
    )


def test_it_learns_what_a_state_explains_and_no_more():
    # s' - s = (s_0 / 2, noise), r = 1 where s_0 > 0; every transition is an episode.
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (2000, 2)).astype(np.float32)
    change = np.stack([states[:, 0] / 2, rng.normal(size=2000)], -1)
    data = episodes([[float(s > 0)] for s in states[:, 0]], [True] * 2000, states, states + change)
    models, (metrics,) = baseline.train(CONFIG, data, 0.9, keys=KEYS)
    assert metrics["return_explained"] > 0.8
    assert 0.4 < metrics["change_explained"] < 0.6  # all of one dimension, nothing of the other
    model = seeds.of_seed(models, 0)
    expected = baseline.next_states(model, np.array([[0.8, 0.0]], np.float32))
    assert expected[0, 0] == pytest.approx(1.2, abs=0.05)


def test_a_single_episode_trains_both_networks():
    states = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [2, 2]], np.float32)
    data = episodes([[1.0, 5.0, -2.0, 0.0, 3.0]], [True], states)
    models, (metrics,) = baseline.train(CONFIG, data, 0.5, keys=KEYS)
    assert all(np.isfinite(number) for number in metrics.values())
    values = seeds.of_seed(models, 0).values(jnp.asarray(states))
    returns = baseline.bootstrapped_returns(data, 0.5)
    np.testing.assert_allclose(values, np.stack([returns, returns], 1), atol=0.5)


def two_halves():
    """Rewards of 1 in the episodes of one half, of 5 in those of the other; and each episode's."""
    data = episodes([[1.0, 1.0]] * 20, [True] * 20)
    rewards = np.where(baseline.half_of(data) == 0, 1.0, 5.0).astype(np.float32)
    return data.replace(rewards=rewards)


def test_each_network_is_fitted_to_its_half():
    # States say nothing and γ = 0: a network knows the mean reward of its half, and no other.
    models, (metrics,) = baseline.train(CONFIG, two_halves(), 0.0, keys=KEYS)
    model = seeds.of_seed(models, 0)
    np.testing.assert_allclose(model.values(jnp.zeros((1, 2))), [[1, 5]], atol=0.05)
    # Asked of the other half, it is 4 off where the variance is 4.
    assert metrics["return_explained"] == pytest.approx(1 - 16 / 4, abs=0.1)


def test_seeds_trained_together_are_those_trained_one_by_one():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(60, 2)).astype(np.float32)
    data = episodes(rng.normal(size=(20, 3)).tolist(), [True] * 20, states, states * 0.9)
    config = baseline.Config(hidden=(16,), steps=30, batch_size=32, learning_rate=1e-2)
    keys = jax.random.split(jax.random.key(0), 3)
    assert baseline.training(config, data, 0.9, keys).name == "baseline"
    together, metrics = baseline.train(config, data, 0.9, keys=keys)
    assert all(leaf.shape[:2] == (3, 2) for leaf in jax.tree.leaves(together.params))
    # One stands for all: each costs a compilation.
    alone, (expected,) = baseline.train(config, data, 0.9, keys=keys[1:2])
    assert metrics[1] == pytest.approx(expected, abs=1e-3)
    for left, right in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        assert left.shape == (3, *right.shape[1:])
        np.testing.assert_allclose(left[1], right[0], atol=1e-4)
    kernels = together.params["params"]["Dense_0"]["kernel"].reshape(6, -1)
    assert min(np.abs(kernels[i] - kernels[j]).max() for i in range(6) for j in range(i)) > 0.1
