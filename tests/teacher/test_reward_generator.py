"""DDR-II: what is given and what counts, any number of pairs, and a reward that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from tskd_jax.data.trajectories import from_columns
from tskd_jax.machine import memory
from tskd_jax.teacher import reward_generator
from tskd_jax.teacher.reward_generator import rewards_between
from tskd_jax.training.training import Hooks


def with_fields(config, **fields):
    config = ConfigDict(config)
    config.update(fields)
    return FrozenConfigDict(config)


def walks(episodes, length, seed=0):
    """Free walks in [-1, 1]² with the reward r = 2 s'_0 - s_1."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1, 1, (episodes, length + 1, 2))
    before, after = states[:, :-1].reshape(-1, 2), states[:, 1:].reshape(-1, 2)
    return from_columns(
        observations=before,
        actions=np.zeros((len(before), 1)),
        rewards=2 * after[:, 0] - before[:, 1],
        next_observations=after,
        terminals=np.zeros(len(before)),
        lengths=[length] * episodes,
    )


def test_what_is_given_and_what_counts_by_hand(monkeypatch, tiny_config):
    # One episode of three steps and two tokens (s_t, s_{t+1}, r_t) a window. Both states of token
    # 0 are given, its reward is the answer; of the last transition token 1 does not exist.
    trajectories = walks(1, 3)
    seen, losses = {}, []

    def stop_here(name, model, loss, tape, *rest):
        losses.append((loss, tape))
        raise StopIteration

    monkeypatch.setattr(reward_generator.diffuser, "train_seeds", stop_here)
    # The network is never run here, and its init takes seconds.
    no_init = staticmethod(lambda key, dim: {"params": {}})
    monkeypatch.setattr(reward_generator.diffuser.Diffuser, "init", no_init)
    monkeypatch.setattr(
        reward_generator,
        "diffusion_loss",
        lambda net, params, schedule, x0, y, **kw: seen.update(kw, x0=x0),
    )
    config = with_fields(tiny_config.reward_generator, answer_weight=10.0)
    model = reward_generator.create(config, trajectories)
    with pytest.raises(StopIteration):
        reward_generator.train(model, trajectories, jax.random.key(0), Hooks(), None)
    loss, tape = losses[0]
    loss(None, (jnp.arange(3), tape), jax.random.key(0))
    given = np.zeros((3, 2, 5), bool)
    given[:, 0, :4] = True
    np.testing.assert_array_equal(seen["given"], given)
    weight = np.ones((3, 2, 5))
    weight[:, 0, 4] = 10
    weight[2, 1] = 0
    np.testing.assert_array_equal(seen["weight"], weight)
    # Token u of transition t is (s_{t+u}, s_{t+u+1}, r_{t+u}).
    for t, u in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0)):
        i = t + u
        s = model.states.normalize(jnp.asarray(trajectories.observations[i]))
        s_next = model.states.normalize(jnp.asarray(trajectories.next_observations[i]))
        r = model.rewards.normalize(jnp.asarray(trajectories.rewards[i : i + 1]))
        np.testing.assert_allclose(seen["x0"][t, u], np.concatenate([s, s_next, r]), atol=1e-5)


@pytest.fixture(scope="module")
def fresh(tiny_config, tiny_trajectories):
    return reward_generator.create(tiny_config.reward_generator, tiny_trajectories)


@pytest.mark.parametrize("pairs", [0, 1, 600])
def test_any_number_of_pairs(fresh, tiny_config, tiny_trajectories, pairs):
    rows = np.arange(pairs) % tiny_trajectories.size
    s, s_next = tiny_trajectories.observations[rows], tiny_trajectories.next_observations[rows]
    got = rewards_between(fresh, tiny_config.reward_sampling, s, s_next, jax.random.key(0))
    assert isinstance(got, np.ndarray)
    assert got.shape == (pairs,)
    # An answer is clipped to the rewards that were seen.
    low, high = tiny_trajectories.rewards.min(), tiny_trajectories.rewards.max()
    assert ((got >= low - 1e-4) & (got <= high + 1e-4)).all()


def test_batches_do_not_change_an_answer(fresh, tiny_config, tiny_trajectories):
    s, s_next = tiny_trajectories.observations[:20], tiny_trajectories.next_observations[:20]
    key = jax.random.key(0)
    whole = rewards_between(fresh, tiny_config.reward_sampling, s, s_next, key)
    parts = rewards_between(fresh, tiny_config.reward_sampling, s, s_next, key, batch_size=8)
    # Rounding (1e-7) is multiplied by 1/√ᾱ_K, here 200, at the first step and grows from there;
    # the rewards span more than 1.
    np.testing.assert_allclose(whole, parts, atol=2e-3)


def test_learns_a_reward_of_both_states(tiny_config):
    config = with_fields(
        tiny_config.reward_generator,
        features=16,
        multipliers=(1,),
        steps=600,
        batch_size=64,
        learning_rate=4e-3,
        schedule="cosine",
        answer_weight=10.0,
        normalizer="gaussian",
    )
    sampling = with_fields(tiny_config.reward_sampling, steps=5, guidance=1.0, target=0.5)
    trajectories = walks(60, 20)
    model = reward_generator.create(config, trajectories)
    model, metrics = reward_generator.train(
        model, trajectories, jax.random.key(0), Hooks(), sampling
    )
    # Predicting the mean leaves the variance, (4 + 1) / 3; knowing one state leaves a fifth of it
    # at best.
    assert metrics["held_out_reward_variance"] == pytest.approx(5 / 3, rel=0.3)
    assert metrics["held_out_mse"] < 0.2 * metrics["held_out_reward_variance"]


def test_fewer_pairs_at_a_time_where_memory_is_short(
    fresh, tiny_config, tiny_trajectories, monkeypatch
):
    s, s_next = tiny_trajectories.observations[:40], tiny_trajectories.next_observations[:40]
    key, told = jax.random.key(0), []

    def ask():
        return rewards_between(
            fresh, tiny_config.reward_sampling, s, s_next, key, on_compiled=told.append
        )

    whole = ask()
    assert len(told) == 1
    # A little less than 64 pairs (40 and padding) take.
    monkeypatch.setattr(memory, "of_device", lambda: (told[0] - 1, 2**40))
    parts = ask()
    assert told[1] == told[0] > told[2]
    assert len(told) == 3
    np.testing.assert_allclose(whole, parts, atol=2e-3)  # as above
