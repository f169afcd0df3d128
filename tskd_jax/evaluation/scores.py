"""From returns to what is reported (section 6).

`scipy.stats` takes a second to import, and is imported where it is used: commands that only answer
a question never come here.
"""

from typing import Any

import numpy as np

from tskd_jax.models.contest import welch_interval


def summarize(scores: np.ndarray) -> dict[str, Any]:
    """Figures of (seeds, episodes) normalised scores.

    Returns:
      mean; stderr over seeds (0 for one seed); per_seed means; interquartile_mean over all
      episodes, and interval: its 95% interval by a percentile bootstrap over episodes.
    """
    from scipy import stats

    per_seed = scores.mean(1)
    flat = scores.reshape(-1)
    middle = interquartile_mean(flat)
    interval = (middle, middle)
    if len(flat) > 1 and np.ptp(flat) > 0:
        result = stats.bootstrap(
            (flat,),
            interquartile_mean,
            n_resamples=2000,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        interval = (result.confidence_interval.low, result.confidence_interval.high)
    return {
        "mean": float(per_seed.mean()),
        "stderr": float(standard_error(per_seed)),
        "per_seed": [float(score) for score in per_seed],
        "interquartile_mean": float(middle),
        "interval": [float(end) for end in interval],
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


def interquartile_mean(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """The mean of the middle half."""
    from scipy import stats

    return stats.trim_mean(x, 0.25, axis=axis)


def standard_error(x: np.ndarray) -> float:
    """Of the mean; 0 for one number, of which nothing is known."""
    return float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else 0.0
