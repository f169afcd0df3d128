"""Datasets compared by what short students of them are worth in the learned world."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tskd_jax.models import cloning, contest, referee, world
from tskd_jax.training import seeds

pytestmark = pytest.mark.slow

CONFIG = contest.Config(students=2, length=0.5, episodes=5)
STUDENT = cloning.Config(steps=200, batch_size=32, hidden=(8,))


@pytest.fixture(scope="module")
def model(tiny_trajectories):
    config = world.Config(steps=300, batch_size=32, hidden=(16,), members=2)
    return seeds.of_seed(world.train(config, tiny_trajectories, keys=jax.random.key(0)[None])[0], 0)


@pytest.fixture(scope="module")
def datasets(tiny_trajectories):
    """One that pushes the number down which is rewarded, and twice one that pushes it up."""
    actions = np.full_like(tiny_trajectories.actions, 0.8)
    up, down = (tiny_trajectories.replace(actions=sign * actions) for sign in (1, -1))
    return [down.select(np.arange(7)), up, up]


def test_the_better_dataset_has_the_better_students(model, datasets, tiny_task):
    starts = datasets[0].initial_observations
    policies = contest.short_students(CONFIG, STUDENT, datasets, tiny_task)
    assert [len(own) for own in policies] == [2, 2, 2]
    down, up, same = (
        referee.judge(model, own, tiny_task, starts[:5], jax.random.key(3)).returns
        for own in policies
    )
    assert up.mean() > down.mean() + 1
    # Nothing but the data differs: neither the first weights nor the rows.
    np.testing.assert_allclose(up, same, rtol=1e-5)
    assert not np.allclose(up[0], up[1], rtol=1e-5)
    # As long as it says.
    short = replace(STUDENT, steps=100)
    expected, _ = cloning.train(short, [datasets[0]], tiny_task, (0, 1))
    for ours, theirs in zip(policies[0], expected, strict=True):
        np.testing.assert_allclose(ours(starts), theirs(starts), atol=1e-4)


def surely_best(*scores: np.ndarray) -> int:
    return contest.surely_best(scores, [np.zeros(one.shape, bool) for one in scores])


def test_the_first_stays_unless_another_is_surely_better():
    noise = np.random.default_rng(0).normal(size=(3, 5, 40))
    first = 50 + noise[0]
    # Of the students' means the error is 0.07: what is one above it is better, 0.1 is not.
    assert surely_best(first, 50.1 + noise[1]) == 0
    assert surely_best(first, 51 + noise[1], 52 + noise[2]) == 2
    assert surely_best(first, 52 + noise[1], 51 + noise[2]) == 1
    assert surely_best(first, 40 + noise[1]) == 0
    # Students that differ by ten say nothing of a difference of three.
    spread = np.array([-10.0, -5, 0, 5, 10])[:, None]
    assert surely_best(first + spread, 53 + noise[1] + spread) == 0
    assert surely_best(first, first) == 0
    # Of one student its episodes tell.
    assert surely_best(first[:1], 51 + noise[1, :1]) == 1
    assert surely_best(first[:1], 50.1 + noise[1, :1]) == 0


def test_a_gain_does_not_outweigh_failures():
    noise = np.random.default_rng(0).normal(scale=0.1, size=(2, 5, 40))
    first, other = 50 + noise[0], 55 + noise[1]
    assert surely_best(first, other) == 1
    other[::2, 0] = 2.0  # 3 of 200 episodes
    assert contest.welch_interval(other.mean(1), first.mean(1))[0] > 0
    assert surely_best(first, other) == 0
    first[0, :3] = 2.0  # where the first fails as often, nothing is lost
    assert surely_best(first, other) == 1


def test_the_worst_tenth_by_hand():
    twenty, few = np.arange(20.0).reshape(2, 10), np.array([[3.0, 1.0, 2.0]])
    left = np.zeros(twenty.shape, bool)
    left[0, :9] = True
    none = np.zeros(few.shape, bool)
    assert contest.worst_tenths([twenty, few], [left & False, none]) == [0.5, 1.0]  # of 0 and 1
    # The first nine count as the tenth, 9; for another choice they count as they ended.
    assert contest.worst_tenths([twenty, twenty], [left, left]) == [9.0, 0.5]
    left[0, 9] = True  # nothing is known of the first student
    assert contest.worst_tenths([twenty], [left]) == [0.5]

    constant = np.full((2, 3), 7.0)
    assert surely_best(constant, constant) == 0
    assert surely_best(constant, constant + 1) == 1


def test_what_the_first_scores_where_nothing_is_known_is_no_reason_to_keep_it():
    noise = np.random.default_rng(0).normal(size=(2, 5, 40))
    first, left = 50 + noise[0], np.zeros((5, 40), bool)
    first[:, :4], left[:, :4] = 1000, True
    other = 53 + noise[1]
    assert first.mean() > other.mean()
    assert contest.surely_best([first, other], [left, np.zeros_like(left)]) == 1


def test_what_nobody_knows_counts_for_the_first():
    noise = np.random.default_rng(0).normal(size=(2, 5, 40))
    left = np.zeros((2, 5, 40), bool)
    left[0, :, :10] = True
    ended = np.where(left[0], 10.0, 50.0) + noise[0]
    other = 45 + noise[1]
    # Counted as they ended the first has 40; its other episodes have 50.
    assert contest.surely_best([ended, other], [left[1], left[1]]) == 1
    assert contest.surely_best([ended, other], list(left)) == 0
    assert contest.surely_best([ended, 55 + noise[1]], list(left)) == 1
    # Of the others it counts as it ended.
    assert contest.surely_best([other, ended], [left[1], left[0]]) == 0
    # Of a student that has no episode to its end nothing is known.
    left[0, 3] = True
    assert contest.surely_best([ended, 99 + noise[1]], list(left)) == 0


def test_to_end_in_the_unknown_does_not_pay_where_steps_cost(tiny_task):
    limit = tiny_task.episode_limit
    # The first's students stand still to the limit; the other's leave the known at once.
    whole = verdict(np.full((2, 4), -float(limit)), np.full((2, 4), limit))
    fast = verdict(np.full((2, 4), -2.0), np.full((2, 4), 1), left=True)
    first, other = contest.cautious_returns([whole, fast], tiny_task)
    np.testing.assert_array_equal(first, whole.returns)
    # One step of -2, and the lowest mean reward of all episodes, -2, for the rest.
    np.testing.assert_array_equal(other, -2.0 * limit)
    left = [whole.left, fast.left]
    assert contest.surely_best([whole.returns, fast.returns], left) == 1
    assert contest.surely_best([first, other], left) == 0
    assert contest.largest_of_the_best([first, other]) == 0
    # Where steps are rewarded, an early end has the least as it is.
    paid = fast.replace(returns=-fast.returns)
    (same,) = contest.cautious_returns([paid], tiny_task)
    np.testing.assert_array_equal(same, paid.returns)


def verdict(returns: np.ndarray, lengths: np.ndarray, left: bool = False) -> referee.Verdict:
    return referee.Verdict(returns, lengths, np.zeros(returns.shape), np.full(returns.shape, left))


def test_of_what_is_as_good_the_most_data():
    noise = 0.1 * np.random.default_rng(0).normal(size=(3, 4, 30))
    spread = np.array([-3.0, -1, 1, 3])[:, None]  # a standard error of 1.3
    assert contest.largest_of_the_best([50 + noise[0], 49.5 + noise[1], 40 + noise[2]]) == 0
    wide = 50 + noise[0] + spread
    assert contest.largest_of_the_best([wide, 49.5 + noise[1], 40 + noise[2]]) == 1
    assert contest.largest_of_the_best([wide, 40 + noise[1], 49.5 + noise[2]]) == 2
    assert contest.largest_of_the_best([40 + noise[0], wide]) == 1
    # Of one student there is no error.
    assert contest.largest_of_the_best([50 + noise[0, :1], 49.5 + noise[1, :1]]) == 0
