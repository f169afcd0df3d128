"""Students beside recorded data, in worlds where the answer is known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.splits import hold_out
from tskd_jax.data.trajectories import from_columns
from tskd_jax.evaluation import offline
from tskd_jax.models import world
from tskd_jax.policy import Bounds, Policy


def linear(weight: np.ndarray, bias: np.ndarray) -> Policy:
    """A student of one layer: tanh(s W + b)."""
    bounds = Bounds.symmetric(1.0, len(bias))
    return Policy((weight.astype(np.float32),), (bias.astype(np.float32),), bounds)


def grid(seed: int, drift: float = 0.0, episodes: int = 20, length: int = 50):
    """Episodes of a point on a plane that actions move by a tenth; reward is the first action."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (episodes * length, 2))
    moves = (0.1 * actions + drift).reshape(episodes, length, 2)
    starts = rng.uniform(-0.2, 0.2, (episodes, 1, 2))
    following = starts + np.cumsum(moves, 1)
    return from_columns(
        observations=(following - moves).reshape(-1, 2),
        actions=actions,
        rewards=actions[:, 0],
        next_observations=following.reshape(-1, 2),
        terminals=np.zeros(len(actions), bool),
        lengths=[length] * episodes,
    )


def test_held_out_episodes_are_of_all_returns_and_nobody_elses():
    data = grid(0)
    kept, held_out = hold_out(data, 0.2)
    assert held_out is not None
    assert (len(kept.lengths), len(held_out.lengths)) == (16, 4)
    together = np.concatenate([kept.returns(), held_out.returns()])
    np.testing.assert_allclose(np.sort(together), np.sort(data.returns()))
    # One of each quarter of the returns.
    quarters = np.searchsorted(np.sort(data.returns()), np.sort(held_out.returns())) // 5
    assert quarters.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("episodes", "share"), [(20, 0.0), (20, 0.04), (1, 0.9)])
def test_nothing_to_hold_out(episodes, share):
    data = grid(0, episodes=episodes)
    kept, held_out = hold_out(data, share)
    assert held_out is None
    assert kept is data


def test_errors_of_actions_by_hand():
    data = grid(1)
    students = [
        linear(np.zeros((2, 2)), np.arctanh([0.5, -0.5])),
        linear(np.zeros((2, 2)), np.zeros(2)),
    ]
    found, metrics = offline.action_errors(students, data)
    assert found.shape == (2, 2, 2)
    for student, output in enumerate(([0.5, -0.5], [0.0, 0.0])):
        for half, rows in enumerate(
            (np.ones(20, bool), data.returns() >= np.median(data.returns()))
        ):
            actions = data.select(rows).actions
            expected = np.sqrt(((output - actions) ** 2).mean(0)) / data.actions.std(0)
            np.testing.assert_allclose(found[student, half], expected, rtol=1e-5)
    assert metrics[0]["action_error"] == pytest.approx(found[:, 0].mean())
    assert metrics[0]["action_error_better"] == pytest.approx(found[:, 1].mean())


def test_an_action_that_never_changes_is_measured_in_raw_units():
    data = grid(2)
    still = data.replace(actions=np.full_like(data.actions, 0.25))
    found, _ = offline.action_errors([linear(np.zeros((2, 2)), np.zeros(2))], still)
    np.testing.assert_allclose(found, 0.25, rtol=1e-5)


@pytest.fixture(scope="module")
def plane():
    """The plane's data, and a world that has learnt it well enough."""
    data = grid(3, episodes=60)
    config = world.Config(steps=400, batch_size=128, hidden=(32,), members=2)
    models, _ = world.train(config, data, keys=jax.random.key(0)[None])
    return data, models.replace(doubt=jnp.full_like(models.doubt, jnp.inf))


def test_a_student_that_runs_away_leaves_the_data(plane, tiny_task):
    data, models = plane
    task = replace(tiny_task, state_size=2, bounds=Bounds.symmetric(1.0, 2), episode_limit=200)
    home = linear(-2 * np.eye(2), np.zeros(2))
    away = linear(np.zeros((2, 2)), np.full(2, 2.0))
    shares, metrics = offline.within_data(
        *(100, models, [home, away], task, data), keys=jax.random.key(1)[None]
    )
    assert shares[0] == 1.0
    assert shares[1] < 0.7
    assert metrics == [{"within": pytest.approx(shares.mean())}]
    # Of each pipeline seed its own student, in its own world.
    twice = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), models)
    keys = jnp.stack([jax.random.key(1)] * 2)
    again, metrics = offline.within_data(100, twice, [home, away], task, data, keys=keys)
    np.testing.assert_allclose(again, shares, atol=0.02)
    assert [one["within"] for one in metrics] == again.tolist()


def test_recorded_states_lie_within_their_own_data(plane):
    """By definition 95% of them do; those of the same system, too."""
    data, _ = plane
    unit = data.observations.std(0)
    states, own = data.observations / unit, data.episode_of
    limit = np.quantile(offline._nearest(states, own, states, own), offline.QUANTILE)
    others = grid(4, episodes=60).observations / unit
    near = offline._nearest(others, np.full(len(others), -1), states, own) <= limit
    assert 0.85 < near.mean() < 0.99
    # Distances are those of NumPy.
    apart = np.linalg.norm(others[:50, None] - states, axis=2).min(1)
    np.testing.assert_allclose(
        offline._nearest(others[:50], np.full(50, -1), states, own), apart, atol=2e-3
    )
