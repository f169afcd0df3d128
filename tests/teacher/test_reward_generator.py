"""DDR-II: what is known and what counts, any number of pairs, and a reward that it learns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.trajectories import IMAGINED, RECORDED, from_columns
from tskd_jax.machine import memory
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.methods.parts.stitching import refuse_disputed
from tskd_jax.teacher import diffuser, reward_generator
from tskd_jax.teacher.reward_generator import member_rewards, rewards_between
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks


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


def test_what_is_known_and_what_counts_by_hand(monkeypatch, tiny_config):
    # One episode of three steps and two tokens (s_t, s_{t+1}, r_t) a window. Both states of token
    # 0 are known, its reward is the target; of the last transition token 1 does not exist.
    trajectories = walks(1, 3)
    seen = {}
    monkeypatch.setattr(
        reward_generator,
        "diffusion_loss",
        lambda net, params, schedule, x0, y, **kw: seen.update(kw, x0=x0),
    )
    config = replace(tiny_config.reward_generator, target_weight=10.0)
    plan, models, _ = reward_generator.training(config, trajectories, jax.random.key(0)[None])
    model = seeds.of_seed(models, 0)
    *_, buffer, coordinates = plan.data
    of_one = buffer.replace(labels=buffer.labels[0]), seeds.of_seed(coordinates, 0)
    plan.loss(None, None, (jnp.arange(3), *of_one), jax.random.key(0))
    known = np.zeros((3, 2, 5), bool)
    known[:, 0, :4] = True
    np.testing.assert_array_equal(seen["known"], known)
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


def test_no_window_of_a_single_episode_reaches_what_is_held_out_of_it(tiny_config):
    config = replace(tiny_config.reward_generator, horizon=4)
    plan, _, (held_out,) = reward_generator.training(config, walks(1, 100), jax.random.key(0)[None])
    rows = np.asarray(plan.data[0])
    assert held_out.min() == 95
    # A window of four tokens has the rewards of its first row and of the three behind it.
    assert rows.max() == 91


@pytest.fixture(scope="module")
def fresh(tiny_config, tiny_trajectories):
    """DDR-II of one seed, untrained."""
    keys = jax.random.key(0)[None]
    _, model, _ = reward_generator.training(tiny_config.reward_generator, tiny_trajectories, keys)
    return seeds.of_seed(diffuser.with_fresh_params(model, keys), 0)


@pytest.mark.parametrize("pairs", [0, 1, 600])
def test_any_number_of_pairs(fresh, tiny_config, tiny_trajectories, pairs):
    rows = np.arange(pairs) % tiny_trajectories.size
    s, s_next = tiny_trajectories.observations[rows], tiny_trajectories.next_observations[rows]
    got = rewards_between(fresh, tiny_config.reward_sampling, s, s_next, jax.random.key(0))
    assert isinstance(got, np.ndarray)
    assert got.shape == (pairs,)
    # A reward is clipped to the rewards that were seen.
    low, high = tiny_trajectories.rewards.min(), tiny_trajectories.rewards.max()
    assert ((got >= low - 1e-4) & (got <= high + 1e-4)).all()


def test_batches_do_not_change_a_reward(fresh, tiny_config, tiny_trajectories):
    s, s_next = tiny_trajectories.observations[:20], tiny_trajectories.next_observations[:20]
    key = jax.random.key(0)
    whole = rewards_between(fresh, tiny_config.reward_sampling, s, s_next, key)
    parts = rewards_between(fresh, tiny_config.reward_sampling, s, s_next, key, batch_size=8)
    # Rounding (1e-7) is multiplied by 1/√ᾱ_K, here 200, at the first step and grows from there;
    # the rewards span more than 1.
    np.testing.assert_allclose(whole, parts, atol=2e-3)


@pytest.fixture(scope="module")
def trained(tiny_config):
    """(DDR-II of two members on walks; its metrics; how it is sampled)."""
    config = replace(
        tiny_config.reward_generator,
        features=16,
        multipliers=(1,),
        steps=600,
        batch_size=64,
        learning_rate=4e-3,
        schedule="cosine",
        target_weight=10.0,
        normalizer="gaussian",
        members=2,
    )
    sampling = replace(tiny_config.reward_sampling, steps=5, guidance=1.0, target_return=0.5)
    trajectories = walks(60, 20)
    models, (metrics,) = reward_generator.train(
        config, sampling, trajectories, keys=jax.random.key(0)[None]
    )
    return seeds.of_seed(models, 0), metrics, sampling


@pytest.mark.slow
def test_learns_a_reward_of_both_states(trained):
    _, metrics, _ = trained
    # Predicting the mean leaves the variance, (4 + 1) / 3; knowing one state leaves a fifth of it
    # at best.
    assert metrics["held_out_reward_variance"] == pytest.approx(5 / 3, rel=0.3)
    assert metrics["held_out_mse"] < 0.2 * metrics["held_out_reward_variance"]


def test_a_member_alone_is_ddr2_of_that_member(trained):
    model, _, sampling = trained
    data, key = walks(2, 20, seed=1), jax.random.key(0)
    pairs = data.observations, data.next_observations
    rewards = member_rewards(model, sampling, *pairs, key)
    assert rewards.shape == (2, data.size)
    second = model.replace(
        params=jax.tree.map(lambda leaf: leaf[1:2], model.params),
        config=replace(model.config, members=1),
    )
    np.testing.assert_array_equal(rewards[1], rewards_between(second, sampling, *pairs, key))
    # All of them have learned the reward, each in its own way.
    assert (np.square(rewards - data.rewards).mean(1) < 0.3 * data.rewards.var()).all()
    assert (rewards.std(0) > 0).all()


def test_stitches_are_refused_where_members_disagree(trained):
    model, _, sampling = trained
    pricing = DiffusionPricing(None, None, model, sampling)  # pyright: ignore[reportArgumentType]
    # One step in each episode. The first hundred would be stitched to states that recorded walks
    # could go on to; the next hundred to states three times as far out.
    data = walks(400, 1, seed=1)
    states = np.where(np.arange(400) < 300, 1, 3)[:, None] * data.observations
    source = np.where(np.arange(400) < 300, RECORDED, IMAGINED)
    data = data.replace(observations=states.astype(np.float32), source=source)
    recorded = data.select(np.arange(300))
    successors = np.full(400, -1)
    successors[:200] = np.arange(200, 400)
    before = successors.copy()
    kept, share = refuse_disputed(
        *(data, successors, recorded, pricing, 0.95, jax.random.key(0), TrainingCallbacks())
    )
    np.testing.assert_array_equal(successors, before)
    refused = kept != successors
    np.testing.assert_array_equal(kept[refused], -1)
    near, far = refused[:100].mean(), refused[100:200].mean()
    assert near < 0.15
    # Not of all: far out, members agree where all are at the largest reward that was seen.
    assert far > max(0.2, 2 * near)
    assert share == refused[:200].mean()
    none = np.full(400, -1)
    kept, share = refuse_disputed(
        *(data, none, recorded, pricing, 0.5, jax.random.key(0), TrainingCallbacks())
    )
    assert (kept == -1).all()
    assert share == 0
    # The limit is of what was recorded, even if nothing of that is left in the data.
    imagined = data.replace(source=np.full_like(source, IMAGINED))
    again, _ = refuse_disputed(
        *(imagined, before, recorded, pricing, 0.95, jax.random.key(0), TrainingCallbacks())
    )
    np.testing.assert_array_equal(again[refused], -1)
    np.testing.assert_array_equal(again[~refused], before[~refused])


def test_fewer_pairs_at_a_time_where_memory_is_short(
    fresh, tiny_config, tiny_trajectories, monkeypatch
):
    s, s_next = tiny_trajectories.observations[:40], tiny_trajectories.next_observations[:40]
    key, reported = jax.random.key(0), []

    def sample():
        return rewards_between(
            fresh, tiny_config.reward_sampling, s, s_next, key, on_compiled=reported.append
        )

    whole = sample()
    assert len(reported) == 1
    # A little less than 64 pairs (40 and padding) take.
    monkeypatch.setattr(memory, "of_device", lambda: (reported[0] - 1, 2**40))
    parts = sample()
    assert reported[1] == reported[0] > reported[2]
    assert len(reported) == 3
    np.testing.assert_allclose(whole, parts, atol=5e-3)  # as above; 2.5e-3 on an AMD processor
