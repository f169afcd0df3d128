"""Summarises scores for reports (section 6).

Importing `scipy.stats` takes a second, so the functions that need it import it; commands that only
print information never do.
"""

from typing import Any

import numpy as np

from tskd_jax.evaluation.statistics import interquartile_mean, interval_of_episodes
from tskd_jax.models.contest import welch_interval


def summarize(scores: np.ndarray) -> dict[str, Any]:
    """Summarise (seeds, episodes) normalised scores.

    Returns:
      mean; stderr over seeds (0 for one seed); per_seed means; interquartile_mean over all
      episodes, and interval: its 95% interval by a bootstrap that draws seeds and, in each drawn
      seed, episodes (with a single seed only episodes).
    """
    per_seed = scores.mean(1)
    return {
        "mean": float(per_seed.mean()),
        "stderr": float(standard_error(per_seed)),
        "per_seed": [float(score) for score in per_seed],
        "interquartile_mean": float(interquartile_mean(scores.reshape(-1))),
        "interval": list(interval_of_episodes(scores)),
    }


def difference(scores: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """The difference of two methods' mean scores.

    Args:
      scores, others: (seeds, episodes) normalised scores; the numbers of seeds may differ.

    Returns:
      mean; interval: its 95% interval over seeds (Welch), or None if either method has one seed.
    """
    ones, twos = scores.mean(1), others.mean(1)
    mean = float(ones.mean() - twos.mean())
    several = min(len(ones), len(twos)) > 1
    interval = list(welch_interval(ones, twos)) if several else None
    return {"mean": mean, "interval": interval}


def mean_interval(x: np.ndarray) -> tuple[float, float] | None:
    """Student's t 95% interval of the mean of several numbers; None for one number."""
    from scipy import stats

    if len(x) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(x) - 1)) * standard_error(x)
    return float(x.mean()) - half, float(x.mean()) + half


def rank_correlation(scores: np.ndarray, others: np.ndarray) -> float | None:
    """Spearman's rank correlation of two (S,) scores of the same students.

    None if either assigns the same score to all students.
    """
    from scipy import stats

    if min(len(set(scores.tolist())), len(set(others.tolist()))) < 2:
        return None
    return float(stats.spearmanr(scores, others).statistic)


def standard_error(x: np.ndarray) -> float:
    """Standard error of the mean; 0 for one number, whose error is unknown."""
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.0
