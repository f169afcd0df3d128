"""How sure scores are: intervals by bootstrap, and comparisons of methods (Agarwal et al. 2021).

*Deep Reinforcement Learning at the Edge of the Statistical Precipice*: with a handful of seeds,
what to report is the interquartile mean, the probability that one method improves on another, and
performance profiles, each with an interval by a bootstrap that draws anew what would be drawn anew
if the experiment were repeated. That is first of all the seed: episodes of one student have it in
common, and resampled as if they were independent they give intervals far too narrow.

A run's own interval (`interval_of_episodes`) draws seeds, and in each seed drawn, episodes. What is
said over several datasets draws seeds in each dataset by itself (their `stratified bootstrap`):
there a score is a seed's mean over its episodes. All intervals are 95%, between percentiles of
`RESAMPLES` draws of a generator of its own: the same scores have the same interval.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)
AT_ONCE = 500_000  # numbers that are drawn and sorted at a time

Interval = tuple[float, float]


def interquartile_mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of the middle half: a quarter of the numbers, rounded down, is cut at each end."""
    x = np.moveaxis(x, axis, -1)
    cut = x.shape[-1] // 4
    end = x.shape[-1] - cut
    # What `scipy.stats.trim_mean` does, whose import takes a second.
    return np.partition(x, (cut, end - 1))[..., cut:end].mean(-1)


def interval_of_episodes(scores: np.ndarray, resamples: int = RESAMPLES) -> Interval:
    """The interval of the interquartile mean over all episodes.

    Seeds are drawn with replacement, and of each seed drawn its episodes. Of a single seed only
    episodes can be drawn: nothing is said then of what another seed would give.

    Args:
      scores: (seeds, episodes).
      resamples: how many draws.
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
    """How many resamples of so many numbers are drawn at a time."""
    most = max(1, AT_ONCE // size)
    while resamples > 0:
        yield min(most, resamples)
        resamples -= most


def percentiles(found: np.ndarray) -> Interval:
    """Between which 95% of the resampled statistics lie."""
    low, high = np.percentile(found, PERCENTILES)
    return float(low), float(high)


# Over several datasets, of each of which a method has the scores of some seeds.


def resampled(scores: Sequence[np.ndarray], rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, all seeds) scores, drawn with replacement in each dataset by itself."""
    drawn = [one[rng.integers(len(one), size=(count, len(one)))] for one in scores]
    return np.concatenate(drawn, 1)


def stratified_interval(
    scores: Sequence[np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    resamples: int = RESAMPLES,
) -> Interval | None:
    """The interval of a statistic of all scores.

    Args:
      scores: (seeds,) of each dataset, whose numbers of seeds may differ.
      statistic: (count, all seeds) -> (count,), such as `interquartile_mean`.
      resamples: how many draws.

    Returns:
      None where each dataset has one seed, from which nothing can be drawn.
    """
    if all(len(one) == 1 for one in scores):
        return None
    rng = np.random.default_rng(0)
    size = sum(map(len, scores))
    found = [statistic(resampled(scores, rng, count)) for count in _blocks(resamples, size)]
    return percentiles(np.concatenate(found))


def optimality_gap(scores: np.ndarray, desired: float = 100.0) -> np.ndarray:
    """How far (…, N) scores are below a desired one on average; what is above counts as equal."""
    return desired - np.minimum(scores, desired).mean(-1)


def probability_of_improvement(ones: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """P(X > Y) + ½ P(X = Y): how likely a seed of one method scores above one of another.

    The share of pairs of seeds (the Mann-Whitney U statistic by the number of pairs), averaged
    over datasets.

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
    """The interval of `probability_of_improvement`; seeds of both methods are drawn.

    A bootstrap draws what it has seen: where every seed of one method is above every seed of the
    other, so it is in all resamples, and the interval is 1 … 1, however few the seeds.

    Returns:
      None where each method has one seed on each dataset, from which nothing can be drawn.
    """
    pairs = list(zip(ones, others, strict=True))
    if all(len(one) == len(other) == 1 for one, other in pairs):
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
    """(R,) of (R, S) and (R, T) scores, the share of the S · T pairs with the first above."""
    left, right = ones[:, :, None], others[:, None, :]
    return (left > right).mean((1, 2)) + 0.5 * (left == right).mean((1, 2))


def performance_profile(scores: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """(T,) the share of all scores above each threshold.

    Args:
      scores: (seeds,) of each dataset.
      thresholds: (T,).
    """
    return (np.concatenate(list(scores))[:, None] > thresholds).mean(0)


def profile_bands(
    scores: Sequence[np.ndarray], thresholds: np.ndarray, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """(T,) lower and (T,) upper ends of the interval of a profile, at each threshold by itself."""
    rng = np.random.default_rng(0)
    above, total = 0.0, sum(map(len, scores))
    for one in scores:
        # How often each seed is drawn, instead of the draws.
        times = rng.multinomial(len(one), np.full(len(one), 1 / len(one)), size=resamples)
        above = above + times @ (one[:, None] > thresholds)
    low, high = np.percentile(above / total, PERCENTILES, axis=0)
    return low, high
