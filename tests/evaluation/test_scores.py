"""Tests of the reported figures, each by hand."""

import numpy as np
import pytest

from tskd_jax.evaluation.scores import (
    difference,
    rank_correlation,
    standard_error,
    summarize,
)


def test_standard_error_by_hand():
    # 1, 2, 3, 4: squares around 2.5 sum to 5; √(5/3)/√4 = 0.6455.
    assert standard_error(np.array([1.0, 2, 3, 4])) == pytest.approx(np.sqrt(5 / 3) / 2)
    assert standard_error(np.array([2.0, 4])) == pytest.approx(1)
    assert standard_error(np.array([3.0, 3, 3])) == 0
    assert standard_error(np.array([3.0])) == 0


def test_summary_by_hand():
    # Two students of four episodes: means 25 and 35. The error is over students, not episodes:
    # √50/√2 = 5. Sorted: 10 20 20 30 | 30 30 40 60; without two at each end 20 30 30 30: 27.5 …
    scores = np.array([[10.0, 20, 30, 40], [20, 30, 30, 60]])
    about = summarize(scores)
    assert about["mean"] == 30
    assert about["per_seed"] == [25, 35]
    assert about["stderr"] == pytest.approx(5)
    assert about["interquartile_mean"] == pytest.approx(27.5)
    low, high = about["interval"]
    assert 10 <= low < 27.5 < high <= 60


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 4)])
def test_equal_scores(shape):
    about = summarize(np.full(shape, 42.0))
    assert about["mean"] == about["interquartile_mean"] == 42
    assert about["stderr"] == 0
    assert about["interval"] == [42, 42]
    assert about["per_seed"] == shape[0] * [42]


def test_one_student_has_no_standard_error_but_an_interval():
    about = summarize(np.arange(10.0)[None])
    assert about["stderr"] == 0
    assert about["interval"][0] < about["interval"][1]


def test_figures_are_plain_numbers():
    about = summarize(np.arange(6, dtype=np.float32).reshape(2, 3))
    numbers = [about["mean"], about["stderr"], about["interquartile_mean"]]
    assert all(type(x) is float for x in [*numbers, *about["per_seed"], *about["interval"]])


def test_difference_by_hand():
    # Means 10, 20 and 30 against 8 and 12. Variances of the means 100/3 and 8/2: Welch's standard
    # error √(112/3) = 6.110, degrees of freedom (112/3)² / ((100/3)²/2 + 4²/1) = 2.4388, of which
    # the t distribution's 97.5% point is 3.6399 (a table has 4.303 for 2, 3.182 for 3).
    scores = np.array([[5.0, 15], [20, 20], [10, 50]])
    others = np.array([[8.0, 8, 8], [0, 12, 24]])
    about = difference(scores, others)
    assert about["mean"] == pytest.approx(10)
    low, high = about["interval"]
    assert (low + high) / 2 == pytest.approx(10)
    assert 3.182 * 6.110 < (high - low) / 2 < 4.303 * 6.110
    assert (high - low) / 2 == pytest.approx(3.63991 * 6.1101, rel=1e-4)
    backwards = difference(others, scores)
    assert backwards["interval"] == pytest.approx([-high, -low])


def test_no_interval_where_there_is_no_spread_to_tell_it_from():
    one, two = np.array([[1.0, 3]]), np.array([[4.0, 4], [4, 4]])
    assert difference(one, two) == {"mean": -2.0, "interval": None}
    assert difference(two, two + 1) == {"mean": -1.0, "interval": [-1.0, -1.0]}


def test_students_that_all_fail_give_an_interval_and_no_warning(recwarn):
    # Variance of the mean 1, none beside it: 4.303 standard errors at two degrees of freedom.
    scores = np.array([[0.0], [3.0], [3.0]]) - 1000 / 3
    found = difference(scores, np.full((5, 1), -1000.0 / 3))
    assert found["interval"] == pytest.approx([2 - 4.30265, 2 + 4.30265], abs=1e-4)
    assert not list(recwarn)


def test_ranks_that_agree():
    # By hand: ranks 1 2 3 4 and 1 3 2 4 differ by 0 1 1 0: 1 - 6 · 2 / (4 · 15) = 0.8.
    found = rank_correlation(np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0, 30.0, 20.0, 99.0]))
    assert found == pytest.approx(0.8)
    assert rank_correlation(np.array([1.0, 2.0]), np.array([5.0, 5.0])) is None
    assert rank_correlation(np.array([1.0]), np.array([2.0])) is None
