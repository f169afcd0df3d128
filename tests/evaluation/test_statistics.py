"""Tests of intervals and comparisons: by hand, by enumeration, and against rliable's numbers."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats
from tiny import ROOT

from tskd_jax.evaluation import statistics
from tskd_jax.evaluation.scores import summarize
from tskd_jax.evaluation.statistics import (
    improvement_interval,
    interquartile_mean,
    interval_of_episodes,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    profile_bands,
    stratified_interval,
)

REFERENCE = json.loads((ROOT / "experiments/results/rliable_reference.json").read_text())


def test_interquartile_mean_by_hand():
    # The middle half of 8 numbers: 3, 4, 5 and 6, whatever their order and the others.
    assert interquartile_mean(np.array([8, 1, 3, 4, 5, 6, 2, 7])) == 4.5
    assert interquartile_mean(np.array([1e9, -1e9, 3, 4, 5, 6, 2, 7])) == 4.5
    # ⌊5/4⌋ = 1 number is cut at each end.
    assert interquartile_mean(np.array([0.0, 1, 2, 6, 100])) == 3
    assert interquartile_mean(np.array([7.0])) == 7
    x = np.random.default_rng(0).normal(size=(3, 11))
    np.testing.assert_allclose(interquartile_mean(x, 0), stats.trim_mean(x, 0.25, 0), 1e-14)


def test_the_interquartile_mean_of_nan_is_nan():
    """It is not cut as an outlier."""
    x = np.array([[1.0, 2, 3, np.nan], [1, 2, 3, 4]])
    np.testing.assert_array_equal(interquartile_mean(x), [np.nan, 2.5])
    assert np.isnan(interval_of_episodes(x)).all()


def test_interquartile_mean_by_row():
    x = np.array([[1.0, 2, 3, 100], [4, 6, -9, 50]])
    np.testing.assert_array_equal(interquartile_mean(x), [2.5, 5])


def enumerated(scores: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Those percentiles of the interquartile mean over every draw of seeds and then episodes."""
    seeds, episodes = scores.shape
    found = []
    for drawn in itertools.product(range(seeds), repeat=seeds):
        for chosen in itertools.product(range(episodes), repeat=seeds * episodes):
            rows = np.repeat(drawn, episodes)
            found.append(stats.trim_mean(scores[rows, list(chosen)], 0.25))
    # Many times each, so that nothing lies between two of them.
    return np.percentile(np.repeat(found, 1000), percentiles)


@pytest.mark.parametrize(
    "scores",
    [
        [[1.0], [4.0], [6.0]],  # seeds alone
        [[1.0, 4.0, 6.0]],  # one seed: its episodes
        [[1.0, 2.0], [5.0, 9.0]],  # 4 ways to draw seeds, and of each 16 to draw episodes
    ],
)
@pytest.mark.parametrize("percentiles", [(2.5, 97.5), (10.0, 87.0)])
def test_the_interval_is_that_of_every_draw(scores, percentiles, monkeypatch):
    monkeypatch.setattr(statistics, "PERCENTILES", percentiles)
    scores = np.array(scores)
    found = interval_of_episodes(scores, resamples=100_000)
    np.testing.assert_allclose(found, enumerated(scores, percentiles))


def test_episodes_of_a_seed_are_not_independent():
    # Ten episodes say no more than one where they are all alike: only seeds are drawn. Both drawn
    # are the first in a quarter of the draws, and the second in another.
    assert interval_of_episodes(np.repeat([[0.0], [1.0]], 10, 1)) == (0, 1)
    # The same numbers as of one seed: the middle of 20 fair coins is far from certain, but is
    # never all heads. (Of 20, with 5 cut at each end: 95% of the draws have 6 to 14 heads.)
    found = interval_of_episodes(np.repeat([[0.0, 1.0]], 10, 1), resamples=20_000)
    assert found == pytest.approx((0.1, 0.9))


def test_the_interval_covers_the_truth():
    # Seeds that differ twice as much as their episodes do. Of 100 intervals with five seeds most
    # hold the true middle, 0; fewer than 95, as of every bootstrap of five. With all episodes as if
    # of one seed it would be about half of them.
    rng = np.random.default_rng(0)
    samples = 2 * rng.normal(size=(100, 5, 1)) + rng.normal(size=(100, 5, 10))
    nested = [interval_of_episodes(one) for one in samples]
    pooled = [interval_of_episodes(one.reshape(1, -1)) for one in samples]
    covered, before = (
        np.mean([low <= 0 <= high for low, high in found]) for found in (nested, pooled)
    )
    assert 0.8 <= covered <= 0.95
    assert before < 0.65


def test_the_interval_is_the_same_each_time_and_draws_from_nobody():
    scores = np.random.default_rng(0).normal(size=(2, 10))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert interval_of_episodes(scores) == interval_of_episodes(scores)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_many_numbers_are_drawn_in_parts(monkeypatch):
    # Other draws, but of as many: the interval differs by the error of the bootstrap alone.
    scores = np.random.default_rng(0).normal(size=(4, 25))
    whole = interval_of_episodes(scores, 4000)
    monkeypatch.setattr(statistics, "AT_ONCE", 700)
    parts = interval_of_episodes(scores, 4000)
    assert parts != whole
    np.testing.assert_allclose(parts, whole, atol=0.05)


def test_a_summary_has_that_interval():
    scores = np.random.default_rng(3).normal(size=(3, 7))
    assert summarize(scores)["interval"] == list(interval_of_episodes(scores))


def test_optimality_gap_by_hand():
    # 50, 20, 0 and 0 below 100: what is above does not make up for what is below.
    assert optimality_gap(np.array([50.0, 80, 100, 170])) == pytest.approx(17.5)
    gaps = optimality_gap(np.array([[0.5, 2.0], [1.0, 1.0]]), desired=1.0)
    np.testing.assert_allclose(gaps, [0.25, 0])


def test_probability_of_improvement_by_hand():
    # Of the pairs of 1 5 7 and 1 6: 1 = 1, 5 > 1, 7 > 1, 7 > 6: (½ + 3) / 6.
    one, other = np.array([1.0, 5, 7]), np.array([1.0, 6])
    assert probability_of_improvement([one], [other]) == pytest.approx(3.5 / 6)
    assert probability_of_improvement([other], [one]) == pytest.approx(1 - 3.5 / 6)
    assert probability_of_improvement([one], [one]) == 0.5
    # Datasets count the same, whatever their seeds: the second has 1.
    found = probability_of_improvement([one, np.array([3.0])], [other, np.array([1.0, 2, 0])])
    assert found == pytest.approx((3.5 / 6 + 1) / 2)


def test_probability_of_improvement_is_mann_whitneys():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, 9).astype(float), rng.integers(0, 6, 7).astype(float)
    expected = stats.mannwhitneyu(one, other).statistic / 63
    assert probability_of_improvement([one], [other]) == pytest.approx(expected, abs=1e-15)


def test_interval_of_an_improvement_by_hand():
    # X is 0 or 1, Y always ½: P is the share of ones among two draws, 0, ½ or 1 with odds 1:2:1.
    assert improvement_interval([np.array([0.0, 1])], [np.full(2, 0.5)]) == (0, 1)
    # All above all: no draw says otherwise.
    assert improvement_interval([np.array([3.0, 4])], [np.array([1.0, 2])]) == (1, 1)
    # How much a single seed varies, nobody knows: of neither method, and of no dataset.
    assert improvement_interval([np.array([3.0])] * 2, [np.array([1.0])] * 2) is None
    assert improvement_interval([np.array([3.0, 5])], [np.array([4.0])]) is None
    several = [np.array([3.0, 5])]
    assert improvement_interval([*several, np.array([3.0])], several * 2) is None


def test_profile_by_hand():
    scores = [np.array([10.0, 20, 30]), np.array([20.0])]
    thresholds = np.array([0.0, 10, 19.9, 20, 30])
    np.testing.assert_array_equal(performance_profile(scores, thresholds), [1, 0.75, 0.75, 0.25, 0])


def test_bands_of_a_profile_are_binomial():
    # Of one dataset with k of n scores above: what a draw has above is binomial (n, k/n).
    scores, thresholds = np.arange(20.0), np.array([-1.0, 3.5, 9.5, 17.5, 19])
    low, high = profile_bands([scores], thresholds, resamples=20_000)
    shares = performance_profile([scores], thresholds)
    np.testing.assert_allclose(shares, [1, 0.8, 0.5, 0.1, 0])
    np.testing.assert_allclose(low, stats.binom.ppf(0.025, 20, shares) / 20)
    np.testing.assert_allclose(high, stats.binom.ppf(0.975, 20, shares) / 20)


def test_datasets_are_drawn_by_themselves():
    # Equal scores on each of two datasets: nothing else can be drawn. Drawn together, it would be.
    scores = [np.zeros(2), np.full(2, 100.0)]
    assert stratified_interval(scores, interquartile_mean) == (50, 50)
    low, high = profile_bands(scores, np.array([50.0]))
    assert low == high == 0.5
    assert stratified_interval([np.zeros(1), np.ones(1)], interquartile_mean) is None
    assert stratified_interval([np.arange(5.0), np.ones(1)], interquartile_mean) is None


def columns(matrix: list) -> list[np.ndarray]:
    """The seeds' scores of each dataset."""
    return list(np.array(matrix).T)


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: f"seed {case['seed']}")
def test_rliable_says_the_same(case):
    x, y = columns(case["x"]), columns(case["y"])
    every = np.concatenate(x)
    found = {
        "interquartile_mean": interquartile_mean(every),
        "optimality_gap": optimality_gap(every, REFERENCE["desired"]),
        "improvement": probability_of_improvement(x, y),
        "profile": performance_profile(x, np.array(REFERENCE["thresholds"])),
    }
    for name, value in found.items():
        np.testing.assert_allclose(value, case[name], rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: f"seed {case['seed']}")
@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
def test_rliables_intervals_are_ours_within_their_error(case, end, monkeypatch):
    # A percentile p of R draws is the percentile p ± √(p (1 - p) / R) of all; of two bootstraps,
    # ours and rliable's, √2 times that. Five times as much: rliable's end lies between ours.
    ours = 5_000
    x, y = columns(case["x"]), columns(case["y"])
    thresholds = np.array(REFERENCE["thresholds"])

    def between(resamples: int) -> tuple[float, float]:
        error = np.sqrt(0.025 * 0.975 * (1 / ours + 1 / resamples))
        middle = (0.025, 0.975)[end]
        return tuple(np.clip(100 * (middle + np.array([-5, 5]) * error), 0, 100))

    def check(name: str, found: tuple) -> None:
        theirs = np.array(case[f"{name}_interval"][end])
        assert (found[0] - 1e-9 <= theirs).all(), name
        assert (theirs <= found[1] + 1e-9).all(), name

    theirs = REFERENCE["resamples"]
    monkeypatch.setattr(statistics, "PERCENTILES", between(theirs))
    check("interquartile_mean", stratified_interval(x, interquartile_mean, ours))
    check("optimality_gap", stratified_interval(x, optimality_gap, ours))
    check("profile", profile_bands(x, thresholds, ours))
    monkeypatch.setattr(statistics, "PERCENTILES", between(theirs // 10))
    check("improvement", improvement_interval(x, y, ours))
