"""From returns to what is reported (section 6).

`scipy.stats` takes a second to import, and is imported where it is used: commands that only answer
a question never come here.
"""

from typing import Any

import numpy as np

from tskd_jax.evaluation.statistics import interquartile_mean, interval_of_episodes
from tskd_jax.models.contest import welch_interval


def summarize(scores: np.ndarray) -> dict[str, Any]:
    """Figures of (seeds, episodes) normalised scores.

    Returns:
      mean; stderr over seeds (0 for one seed); per_seed means; interquartile_mean over all
      episodes, and interval: its 95% interval by a bootstrap that draws seeds and, in each seed
      drawn, episodes (of one seed only episodes).
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
    """How far one method is above another.

    Args:
      scores, others: (seeds, episodes) normalised scores; the numbers of seeds may differ.

    Returns:
      mean; interval: its 95% interval over seeds, Welch's, or None where either has one seed.
    """
    ones, twos = scores.mean(1), others.mean(1)
    mean = float(ones.mean() - twos.mean())
    several = min(len(ones), len(twos)) > 1
    interval = list(welch_interval(ones, twos)) if several else None
    return {"mean": mean, "interval": interval}


def mean_interval(x: np.ndarray) -> tuple[float, float] | None:
    """Student's 95% interval of the mean of some numbers; None for one number."""
    from scipy import stats

    if len(x) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(x) - 1)) * standard_error(x)
    return float(x.mean()) - half, float(x.mean()) + half


def rank_correlation(scores: np.ndarray, others: np.ndarray) -> float | None:
    """Spearman's, of two verdicts on the same (S,) students; None where nothing ranks."""
    from scipy import stats

    if min(len(set(scores.tolist())), len(set(others.tolist()))) < 2:
        return None
    return float(stats.spearmanr(scores, others).statistic)


def standard_error(x: np.ndarray) -> float:
    """Of the mean; 0 for one number, of which nothing is known."""
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.0
