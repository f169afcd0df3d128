"""Inverse dynamics: size, bound, what it learns, and which rows are held out."""

import jax
import numpy as np
import pytest

from tskd_jax.data.splits import split_rows
from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.tasks import Task
from tskd_jax.models import inverse_dynamics
from tskd_jax.models.inverse_dynamics import actions_between
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.policy import Bounds
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

TASK = Task("toy", "none", 3, Bounds.symmetric(1.0, 2), 10, 0.0, 1.0)


def walks(episodes, length, seed=0):
    """s' = s + 0.1 (a_0, a_1, a_0 - a_1): the action is in the change of state."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-0.9, 0.9, (episodes, length, 2))
    push = np.concatenate([actions, actions[..., :1] - actions[..., 1:]], -1)
    states = rng.normal(size=(episodes, 1, 3)) + 0.1 * np.cumsum(push, 1)
    before = np.concatenate([states[:, :1] - 0.1 * push[:, :1], states[:, :-1]], 1)
    return from_columns(
        observations=before.reshape(-1, 3),
        actions=actions.reshape(-1, 2),
        rewards=np.zeros(episodes * length),
        next_observations=states.reshape(-1, 3),
        terminals=np.zeros(episodes * length),
        lengths=[length] * episodes,
    )


def test_golden_parameter_count_on_hopper():
    # (2 · 11 + 1) 512 + (512 + 1) 512 + (512 + 1) 3 = 11776 + 262656 + 1539 = 275971.
    one = np.random.default_rng(0).normal(size=(4, 11))
    trajectories = from_columns(
        observations=one,
        actions=np.zeros((4, 3)),
        rewards=np.zeros(4),
        next_observations=one,
        terminals=np.zeros(4),
        lengths=[4],
    )
    model = inverse_dynamics.create(inverse_dynamics.Config(), trajectories, get_task("hopper"))
    assert count_parameters(model.init(jax.random.key(0))) == 275_971


@pytest.fixture(scope="module")
def trained():
    """(f of one seed, its metrics, what was reported meanwhile)."""
    config = inverse_dynamics.Config(hidden=(32, 32), steps=1200, batch_size=64, learning_rate=3e-3)
    seen = []
    callbacks = TrainingCallbacks(on_progress=lambda *report: seen.append(report))
    models, (metrics,) = inverse_dynamics.train(
        config, walks(40, 20), TASK, keys=jax.random.key(0)[None], callbacks=callbacks
    )
    return seeds.of_seed(models, 0), metrics, seen


def test_learns_the_action_behind_a_change_of_state(trained):
    model, metrics, seen = trained
    assert metrics["held_out_r2"] > 0.95
    assert seen[-1][:2] == (1200, 1200)
    fresh = walks(5, 20, seed=9)
    got = actions_between(model, fresh.observations, fresh.next_observations)
    assert np.square(got - fresh.actions).mean() < 0.1 * fresh.actions.var()


def test_actions_stay_within_the_bound(trained):
    model, *_ = trained
    far = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32) * 1e3
    assert np.abs(actions_between(model, far, -far)).max() <= 1.0
    twice = model.replace(bounds=Bounds.symmetric(2.0, 2))
    np.testing.assert_allclose(
        actions_between(twice, far, -far), 2 * actions_between(model, far, -far), rtol=1e-6
    )


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_pairs(trained, rows):
    model, *_ = trained
    data = walks(1, 5)
    s, s_next = data.observations[:rows], data.next_observations[:rows]
    actions = actions_between(model, s, s_next)
    assert actions.shape == (rows, 2)
    if rows:
        np.testing.assert_allclose(
            actions[:1], actions_between(model, s[:1], s_next[:1]), atol=1e-6
        )


def test_seeds_trained_together_are_those_trained_one_by_one():
    config = inverse_dynamics.Config(hidden=(16,), steps=30, batch_size=32, learning_rate=1e-2)
    data, keys = walks(10, 20), jax.random.split(jax.random.key(0), 2)
    together, metrics = inverse_dynamics.train(config, data, TASK, keys=keys)
    for i in range(2):
        alone, (expected,) = inverse_dynamics.train(config, data, TASK, keys=keys[i : i + 1])
        assert metrics[i] == pytest.approx(expected, abs=1e-4)
        for left, right in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            assert left.shape == (2, *right.shape[1:])
            np.testing.assert_allclose(left[i], right[0], atol=1e-4)
    kernel = together.params["params"]["Dense_0"]["kernel"]
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def test_what_is_trained_on_is_what_is_not_held_out():
    keys = jax.random.split(jax.random.key(0), 3)
    training, held_out = inverse_dynamics.training(
        inverse_dynamics.Config(), walks(10, 20), TASK, keys
    )
    assert training.name == "inverse_dynamics"
    _, rows, counts = training.data
    for seen, count, unseen in zip(rows, counts, held_out, strict=True):
        assert sorted([*seen[:count], *unseen]) == list(range(200))
    assert len({tuple(rows) for rows in held_out}) > 1


@pytest.mark.parametrize("episodes", [2, 3, 40])
def test_whole_episodes_are_held_out(episodes):
    trajectories = walks(episodes, 7)
    rows, held_out = split_rows(trajectories, 0.05, jax.random.key(1))
    assert sorted([*rows, *held_out]) == list(range(trajectories.size))
    episode = trajectories.episode_of
    assert not set(episode[rows]) & set(episode[held_out])
    # 5% of 40 episodes is 2; of fewer, one has to do.
    assert len(set(episode[held_out])) == max(1, episodes // 20)


def test_a_single_episode_keeps_its_end_back():
    rows, held_out = split_rows(walks(1, 20), 0.05, jax.random.key(0))
    np.testing.assert_array_equal(rows, np.arange(19))
    np.testing.assert_array_equal(held_out, [19])


@pytest.mark.parametrize("episodes", [1, 10])
def test_an_end_that_was_not_recorded_is_nothing_to_learn_from(episodes):
    data = walks(episodes, 20)
    following, terminals = np.array(data.next_observations), np.zeros(data.size, bool)
    following[data.ends], terminals[data.ends] = data.observations[data.ends], True
    data = data.replace(next_observations=following, terminals=terminals)
    rows, held_out = split_rows(data, 0.1, jax.random.key(0))
    assert sorted([*rows, *held_out]) == sorted(set(range(data.size)) - set(data.ends))
    assert len(held_out) > 0
    # Where there is nothing else, there is that.
    only = data.take(data.ends, np.ones(episodes, int))
    rows, held_out = split_rows(only, 0.1, jax.random.key(0))
    assert len(rows) > 0
    assert len(held_out) > 0
