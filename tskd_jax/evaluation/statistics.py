"""Uncertainty of scores: bootstrap intervals and comparisons of methods (Agarwal et al. 2021).

*Deep Reinforcement Learning at the Edge of the Statistical Precipice* recommends, for a handful of
seeds, to report the interquartile mean, the probability that one method improves on another, and
performance profiles, each with a bootstrap interval. The bootstrap must resample whatever would be
drawn anew if the experiment were repeated, above all the seed: episodes of one student share it,
and resampling them as if they were independent gives intervals that are far too narrow.

A run's own interval (`interval_of_episodes`) resamples seeds, and episodes in each drawn seed.
Statistics over several datasets resample seeds in each dataset separately (the paper's `stratified
bootstrap`); there a score is a seed's mean over its episodes. All are 95% percentile intervals of
`RESAMPLES` draws. Each uses a generator of its own, so the same scores give the same interval.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
AT_ONCE = 500_000  # maximum number of scores that are drawn and sorted at once

Interval = tuple[float, float]


def interquartile_mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of the middle half: a quarter of the numbers, rounded down, is cut at each end.

    NaN if one of the numbers is NaN: it has no place in their order, and must not be cut.
    """
    x = np.moveaxis(x, axis, -1)
    cut = x.shape[-1] // 4
    end = x.shape[-1] - cut
    # The same as `scipy.stats.trim_mean`, whose import takes a second.
    mean = np.partition(x, (cut, end - 1))[..., cut:end].mean(-1)
    return np.where(np.isnan(x).any(-1), np.nan, mean)


def interval_of_episodes(scores: np.ndarray, resamples: int = RESAMPLES) -> Interval:
    """The interval of the interquartile mean over all episodes.

    Seeds are drawn with replacement, and episodes in each drawn seed. With a single seed only
    episodes can be drawn, so the interval does not cover the variation between seeds.

    Args:
      scores: (seeds, episodes).
      resamples: number of draws.
    """
    if np.ptp(scores) == 0:
        return float(scores.flat[0]), float(scores.flat[0])
    seeds, episodes = scores.shape
    rng = np.random.default_rng(0)
    found = []
    for count in _blocks(resamples, scores.size):
        seed = rng.integers(seeds, size=(count, seeds, 1), dtype=np.int32)
        episode = rng.integers(episodes, size=(count, seeds, episodes), dtype=np.int32)
        drawn = scores.reshape(-1).take(seed * np.int32(episodes) + episode)
        found.append(interquartile_mean(drawn.reshape(count, -1)))
    return percentiles(np.concatenate(found))


def _blocks(resamples: int, size: int) -> Iterator[int]:
    """Split `resamples` draws of `size` numbers each into blocks of at most AT_ONCE numbers."""
    most = max(1, AT_ONCE // size)
    while resamples > 0:
        yield min(most, resamples)
        resamples -= most


def percentiles(found: np.ndarray) -> Interval:
    """The interval that contains the middle 95% of the resampled statistics."""
    low, high = np.percentile(found, PERCENTILES)
    return float(low), float(high)


# Statistics over several datasets; a method has the scores of several seeds on each.


def resampled(scores: Sequence[np.ndarray], rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, all seeds) scores, drawn with replacement in each dataset separately."""
    drawn = [one[rng.integers(len(one), size=(count, len(one)))] for one in scores]
    return np.concatenate(drawn, 1)


def stratified_interval(
    scores: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = RESAMPLES,
) -> Interval | None:
    """The interval of a statistic of all scores, by a stratified bootstrap.

    Args:
      scores: (seeds,) of each dataset; the numbers of seeds may differ.
      statistic: (count, all seeds) -> (count,), such as `interquartile_mean`.
      resamples: number of draws.

    Returns:
      The interval; None if a dataset has only one seed, of which nobody knows how much it varies.
    """
    if min(map(len, scores)) == 1:
        return None
    rng = np.random.default_rng(0)
    size = sum(map(len, scores))
    found = [statistic(resampled(scores, rng, count)) for count in _blocks(resamples, size)]
    return percentiles(np.concatenate(found))


def optimality_gap(scores: np.ndarray, desired: float = 100.0) -> np.ndarray:
    """The mean shortfall of (…, N) scores from a desired score; higher scores count as equal."""
    return desired - np.minimum(scores, desired).mean(-1)


def probability_of_improvement(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """P(X > Y) + ½ P(X = Y): the probability that a seed of one method scores above one of another.

    It is the share of such pairs of seeds (the Mann-Whitney U statistic divided by the number of
    pairs), averaged over datasets.

    Args:
      ones, others: (seeds,) scores of each dataset; the numbers of seeds may differ.
    """
    shares = [
        _share_above(one[None], other[None])[0] for one, other in zip(ones, others, strict=True)
    ]
    return float(np.mean(shares))


def improvement_interval(
    ones: Sequence[np.ndarray], others: Sequence[np.ndarray], resamples: int = RESAMPLES
) -> Interval | None:
    """The interval of `probability_of_improvement`; seeds of both methods are resampled.

    A bootstrap draws only observed scores. If every seed of one method is above every seed of the
    other, this holds in all resamples, and the interval is 1 … 1, however few the seeds.

    Returns:
      The interval; None if a method has only one seed on a dataset, of which nobody knows how much
      it varies.
    """
    pairs = list(zip(ones, others, strict=True))
    if min(map(len, (*ones, *others))) == 1:
        return None
    rng = np.random.default_rng(0)
    found = []
    for count in _blocks(resamples, max(len(one) * len(other) for one, other in pairs)):
        shares = [
            _share_above(resampled([one], rng, count), resampled([other], rng, count))
            for one, other in pairs
        ]
        found.append(np.mean(shares, 0))
    return percentiles(np.concatenate(found))


def _share_above(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(R,) share of the S · T pairs of (R, S) and (R, T) scores in which the first is higher.

    Equal pairs count half.
    """
    left, right = ones[:, :, None], others[:, None, :]
    return (left > right).mean((1, 2)) + 0.5 * (left == right).mean((1, 2))


def performance_profile(scores: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """(T,) share of all scores above each threshold.

    Args:
      scores: (seeds,) of each dataset.
      thresholds: (T,).
    """
    return (np.concatenate(list(scores))[:, None] > thresholds).mean(0)


def profile_bands(
    scores: Sequence[np.ndarray], thresholds: np.ndarray, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) lower and (T,) upper ends of a profile's interval, for each threshold separately."""
    rng = np.random.default_rng(0)
    above, total = 0.0, sum(map(len, scores))
    for one in scores:
        # Draw how often each seed occurs, instead of single seeds.
        times = rng.multinomial(len(one), np.full(len(one), 1 / len(one)), size=resamples)
        above = above + times @ (one[:, None] > thresholds)
    low, high = np.percentile(above / total, PERCENTILES, axis=0)
    return low, high
