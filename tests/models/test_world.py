"""The world: what it learns of a system that is known, and its seeds and members."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.splits import split_rows
from tskd_jax.data.trajectories import from_columns
from tskd_jax.models import world
from tskd_jax.training import seeds

CONFIG = world.Config(
    steps=1500, batch_size=64, learning_rate=3e-3, hidden=(32,), members=2, schedule="cosine"
)


@pytest.fixture(scope="module")
def linear():
    """s' = s + (0.1 a_0, 0, -0.2 a_1), r = s_0 - a_1: the second number never changes."""
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(2000, 3)), rng.uniform(-1, 1, (2000, 2))
    change = np.stack([0.1 * actions[:, 0], np.zeros(2000), -0.2 * actions[:, 1]], 1)
    return from_columns(
        observations=states,
        actions=actions,
        rewards=states[:, 0] - actions[:, 1],
        next_observations=states + change,
        terminals=np.zeros(2000, bool),
        lengths=np.full(20, 100),
    )


@pytest.fixture(scope="module")
def trained(linear):
    return world.train(CONFIG, linear, keys=jax.random.split(jax.random.key(0)))


def test_it_learns_where_actions_lead_and_what_they_pay(linear, trained):
    models, metrics = trained
    for seed in range(2):
        model = seeds.of_seed(models, seed)
        next_states, rewards = world.predictions(model, linear.observations, linear.actions)
        assert next_states.shape == (2000, 2, 3)
        assert rewards.shape == (2000, 2)
        assert (next_states[:, :, 1] == linear.observations[:, 1:2]).all()
        off = next_states.mean(1) - linear.next_observations
        assert np.sqrt(np.square(off).mean()) < 0.01
        assert metrics[seed]["held_out_error"] < 0.01
        assert metrics[seed]["held_out_reward_r2"] > 0.99
        # Members are networks of their own.
        assert 0 < metrics[seed]["disagreement"] < 0.02


def test_errors_along_a_rollout(linear):
    """What is said of rollouts of recorded actions is what one gets by walking them."""
    change = (linear.next_observations - linear.observations).reshape(20, 100, 3)
    walked = linear.observations[linear.starts, None] + np.cumsum(change, 1)
    before, after = ((walked - part).reshape(2000, 3) for part in (change, 0 * change))
    walks = linear.replace(observations=before, next_observations=after)
    keys = jax.random.key(0)[None]
    models, (metrics,) = world.train(CONFIG, walks, keys=keys)
    model, (split_key, _) = seeds.of_seed(models, 0), jax.random.split(keys[0])
    _, held_out = split_rows(walks, CONFIG.held_out, split_key)
    (start,) = held_out[:1]
    assert len(held_out) == 100
    for length in (10, 50):
        off = []
        for first in range(start, start + 101 - length):
            state = walks.observations[first : first + 1]
            for row in range(first, first + length):
                everyone, _ = world.predictions(model, state, walks.actions[row : row + 1])
                state = everyone.mean(1)
            off.append((state - walks.next_observations[row]) / walks.observations.std(0))
        expected = np.sqrt(np.square(off).mean())
        assert metrics[f"error_after_{length}"] == pytest.approx(expected, rel=1e-3)
        assert metrics["held_out_error"] < expected < 0.5


def test_seeds_trained_together_are_those_trained_one_by_one(linear, trained):
    models, _ = trained
    keys = jax.random.split(jax.random.key(0))
    alone, _ = world.train(CONFIG, linear, keys=keys[1:])
    for ours, theirs in zip(
        jax.tree.leaves(seeds.of_seed(models, 1).params),
        jax.tree.leaves(seeds.of_seed(alone, 0).params),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_a_constant_reward_is_learned_exactly(linear):
    constant = linear.replace(rewards=np.full_like(linear.rewards, 1.5))
    models, _ = world.train(replace(CONFIG, steps=3), constant, keys=jax.random.key(0)[None])
    model = seeds.of_seed(models, 0)
    _, rewards = world.predictions(model, linear.observations[:5], linear.actions[:5])
    np.testing.assert_array_equal(rewards, np.full((5, 2), 1.5, np.float32))


def test_noise_in_training_leads_back_to_recorded_states():
    """Both numbers of a recorded state are equal; a rollout begins where they are not."""
    rng = np.random.default_rng(0)
    states, actions = rng.normal(size=(2000, 1)), rng.uniform(-1, 1, (2000, 1))
    pair = from_columns(
        observations=np.repeat(states, 2, 1),
        actions=actions,
        rewards=states[:, 0],
        next_observations=np.repeat(states + 0.2 * actions, 2, 1),
        terminals=np.zeros(2000, bool),
        lengths=np.full(20, 100),
    )
    begin = pair.observations[:500] + np.array([[0.05, -0.05]], np.float32)

    def apart_after_ten(noise):
        config = replace(CONFIG, noise=noise)
        models, (metrics,) = world.train(config, pair, keys=jax.random.key(0)[None])
        model, reached = seeds.of_seed(models, 0), begin
        for _ in range(10):
            reached = world.predictions(model, reached, np.zeros((500, 1), np.float32))[0].mean(1)
        assert metrics["held_out_error"] < 0.03
        return np.abs(reached[:, 0] - reached[:, 1]).mean()

    assert apart_after_ten(0.5) < 0.02 < 0.07 < apart_after_ten(0.0)


def test_what_lies_far_beyond_the_recorded_is_cut_off(linear, trained):
    model = seeds.of_seed(trained[0], 0)
    states = linear.observations[:1] + np.array([[0, 0, 1e6]], np.float32)
    next_states, rewards = world.predictions(model, states, linear.actions[:1])
    span = np.ptp(linear.next_observations[:, 2])
    assert (next_states[..., 2] <= linear.next_observations[:, 2].max() + 0.3 * span).all()
    assert (np.abs(rewards) <= np.abs(linear.rewards).max() + 0.3 * np.ptp(linear.rewards)).all()


def test_what_members_disagree_about_is_not_known(linear, trained):
    model = seeds.of_seed(trained[0], 0)
    answers, _ = world.predictions(model, linear.observations, linear.actions)
    deviation = np.std(linear.next_observations - linear.observations, 0)
    scale = np.where(deviation > 0, deviation, 1)
    apart = (answers.std(1) / scale).mean(-1)
    np.testing.assert_allclose(model.apart(jnp.asarray(answers)), apart, atol=1e-5)
    # Nothing of the data is doubted, but what they disagree about half again as much.
    most = np.quantile(apart, 1 - 1e-4)
    assert np.asarray(model.knows(jnp.asarray(apart))).all()
    known = np.asarray(model.knows(jnp.asarray([1.49, 1.51]) * most))
    np.testing.assert_array_equal(known, [True, False])
