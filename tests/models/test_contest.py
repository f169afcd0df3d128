"""Datasets compared by what short students of them are worth in the learned world."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import stats

from tskd_jax.models import cloning, contest, world
from tskd_jax.training import seeds

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
    policies, verdict = contest.contest(
        CONFIG, STUDENT, datasets, model, tiny_task, starts, jax.random.key(3)
    )
    assert [len(own) for own in policies] == [2, 2, 2]
    down, up, same = verdict.returns.reshape(3, 2, 5)
    assert up.mean() > down.mean() + 1
    # Nothing but the data differs: not the first weights, the rows, the starts, or who answers.
    np.testing.assert_allclose(up, same, rtol=1e-5)
    assert not np.allclose(up[0], up[1], rtol=1e-5)
    # As long as it says.
    short = replace(STUDENT, steps=100)
    expected, _ = cloning.train(short, [datasets[0]], tiny_task, (0, 1))
    for ours, theirs in zip(policies[0], expected, strict=True):
        np.testing.assert_allclose(ours(starts), theirs(starts), atol=1e-4)


def test_the_first_stays_unless_another_is_surely_better():
    noise = np.random.default_rng(0).normal(size=(3, 5, 40))
    first = 50 + noise[0]
    # Of the students' means the error is 0.07: what is one above it is better, 0.1 is not.
    assert contest.surely_best([first, 50.1 + noise[1]]) == 0
    assert contest.surely_best([first, 51 + noise[1], 52 + noise[2]]) == 2
    assert contest.surely_best([first, 52 + noise[1], 51 + noise[2]]) == 1
    assert contest.surely_best([first, 40 + noise[1]]) == 0
    # Students that differ by ten say nothing of a difference of three.
    spread = np.array([-10.0, -5, 0, 5, 10])[:, None]
    assert contest.surely_best([first + spread, 53 + noise[1] + spread]) == 0
    assert contest.surely_best([first, first]) == 0
    # Of one student its episodes tell.
    assert contest.surely_best([first[:1], 51 + noise[1, :1]]) == 1
    assert contest.surely_best([first[:1], 50.1 + noise[1, :1]]) == 0
    constant = np.full((2, 3), 7.0)
    assert contest.surely_best([constant, constant]) == 0
    assert contest.surely_best([constant, constant + 1]) == 1


def test_the_error_of_the_world_counts():
    """A difference that goes away with one of the members is none."""
    noise = np.random.default_rng(0).normal(size=(2, 5, 40))
    scores = [50 + noise[0], 52 + noise[1]]
    agreed = np.array([[50, 52.1], [50, 51.9], [51, 53.0], [49, 51.0]])
    assert contest.surely_best(scores) == contest.surely_best(scores, agreed) == 1
    of_one = np.array([[50, 52.1], [50, 51.9], [50, 48.0], [50, 52]])
    assert contest.surely_best(scores, of_one) == 0


def test_the_interval_is_that_of_welch_and_the_jackknife():
    rng = np.random.default_rng(0)
    ones, twos = rng.normal(size=7), 3 * rng.normal(size=4)
    expected = stats.ttest_ind(ones, twos, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(contest.welch_interval(ones, twos), expected)
    np.testing.assert_allclose(contest.welch_interval(ones, twos, np.full(4, 2.0)), expected)
    # Of a mean, the jackknife's variance is that of the mean: (M - 1) / M · Σ (d_i - d̄)².
    sample = rng.normal(size=5)
    left_out = np.array([np.delete(sample, i).mean() for i in range(5)])
    certain = np.zeros(2)
    half = stats.t.ppf(0.975, 4) * stats.sem(sample)
    np.testing.assert_allclose(contest.welch_interval(certain, certain, left_out), (-half, half))
