"""The referee: rollouts in a world that is known, by hand and step by step."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.models import referee, world
from tskd_jax.policy import Bounds, Policy
from tskd_jax.training import seeds


@pytest.fixture(scope="module")
def trained(tiny_trajectories):
    """Two members that have learnt a little."""
    config = world.Config(steps=100, batch_size=32, hidden=(8,), members=2)
    models, _ = world.train(config, tiny_trajectories, keys=jax.random.key(0)[None])
    return seeds.of_seed(models, 0)


@pytest.fixture(scope="module")
def policies():
    """Two small networks for m = 3 and n = 2."""
    rng = np.random.default_rng(0)

    def weights(*sizes):
        pairs = itertools.pairwise(sizes)
        return tuple(rng.normal(size=pair).astype(np.float32) for pair in pairs)

    biases = (np.full(4, 0.1, np.float32), np.zeros(2, np.float32))
    return [Policy(weights(3, 4, 2), biases, Bounds.symmetric(1.0, 2)) for _ in range(2)]


@pytest.fixture(scope="module")
def starts():
    return np.random.default_rng(1).uniform(-0.9, 0.9, (6, 3)).astype(np.float32)


def by_hand(model, policy, task, states, key):
    """Returns, lengths, ends and states of episodes, one step after the other in NumPy."""
    returns, lengths = np.zeros(len(states)), np.zeros(len(states), int)
    left = np.zeros(len(states), bool)
    visited, alive = [], np.ones(len(states), bool)
    for time in range(task.episode_limit):
        if not alive.any():
            break
        visited.append(np.where(alive[:, None], states, np.nan))
        following, rewards = world.predictions(model, states, policy(states))
        member = jax.random.randint(
            jax.random.fold_in(key, time), (len(states),), 0, following.shape[1]
        )
        rows = np.arange(len(states))
        returns += np.where(alive, rewards[rows, member], 0)
        lengths += alive
        states = following[rows, member]
        known = np.asarray(model.knows(model.apart(jnp.asarray(following))))
        goes_on = np.asarray(task.alive(states))
        left |= alive & goes_on & ~known
        alive &= goes_on & known
    return returns, lengths, left, np.stack(visited, 1)


def test_each_step_is_answered_by_a_random_member(trained, policies, tiny_task, starts):
    key = jax.random.key(3)
    # Ends sooner for some than for others.
    task = replace(tiny_task, alive=lambda states: states[..., 1] < 0.6)
    model = trained.replace(doubt=trained.doubt / world.DOUBT)
    verdict = referee.judge(model, policies, task, starts, key, keep_states=True)
    assert np.ptp(verdict.lengths) > 0
    assert 0 < verdict.left.mean() < 1
    for index, policy in enumerate(policies):
        returns, lengths, left, visited = by_hand(model, policy, task, starts, key)
        np.testing.assert_allclose(verdict.returns[index], returns, rtol=1e-4)
        np.testing.assert_array_equal(verdict.lengths[index], lengths)
        np.testing.assert_array_equal(verdict.left[index], left)
        present = ~np.isnan(visited[..., 0])
        ours = verdict.states[index, :, : visited.shape[1]]
        np.testing.assert_allclose(ours[present], visited[present], atol=1e-5)
    assert len(verdict.visited()) == verdict.lengths.sum()


def test_disagreement_is_how_far_members_lie_apart(trained, policies, tiny_task, starts):
    verdict = referee.judge(
        trained, policies, replace(tiny_task, episode_limit=1), starts, jax.random.key(0)
    )
    following, _ = world.predictions(trained, starts, policies[0](starts))
    apart = (following.std(1) / trained.change_deviation).mean(-1)
    np.testing.assert_allclose(verdict.disagreement[0], apart, rtol=1e-4)
    assert verdict.states is None


def test_members_that_agree_leave_no_doubt(trained, policies, tiny_task, starts):
    same = trained.replace(
        params=jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 2), trained.params)
    )
    one, other = (
        referee.judge(same, policies, tiny_task, starts, jax.random.key(seed)) for seed in (0, 1)
    )
    np.testing.assert_array_equal(one.returns, other.returns)
    np.testing.assert_allclose(one.disagreement, 0, atol=1e-6)
