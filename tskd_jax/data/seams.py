"""Where rows should follow each other and do not: what is mended, warned of, and refused.

A file says of each transition where it leads, and by its order what came next. The two must agree
inside an episode; at an end the file's next row belongs to another one.
"""

import numpy as np

from tskd_jax.data.checks import DatasetChecks
from tskd_jax.errors import DatasetError

FEW = 0.02  # the share of inner rows that may lead elsewhere with a warning only
ROUNDING = 1e-4  # in standard deviations of the states
# At ends: how many of them must be alike to be a habit of whoever wrote the file.
HABIT, SEVERAL = 0.5, 3


def unknown_ends(
    name: str,
    observations: np.ndarray,
    next_observations: np.ndarray,
    ends: np.ndarray,
    checks: DatasetChecks,
) -> np.ndarray:
    """(N,) the ends whose recorded next state is none: they are treated as if it was absent.

    Args:
      name: of the file, for messages.
      observations, next_observations: (N, m), the latter perhaps not finite at ends.
      ends: (N,) rows that end an episode.
      checks: hears of it.
    """
    rows = np.flatnonzero(ends)
    not_finite = ~np.isfinite(next_observations[rows]).all(1)
    following = np.roll(observations, -1, 0)[rows]
    inner = ~ends
    stands_still = _same(next_observations[inner], observations[inner]).mean() if inner.any() else 1
    habits = {
        "not finite": not_finite,
        # The last row of the file has none behind it.
        "the first of the next episode": _same(next_observations[rows], following)
        & (rows < len(ends) - 1)
        & ~_same(following, observations[rows]),
        "zeros": (next_observations[rows] == 0).all(1) & (observations[rows] != 0).any(1),
    }
    if stands_still < HABIT:
        habits["the state itself"] = _same(next_observations[rows], observations[rows])
    found = np.zeros(len(ends), bool)
    for what, at in habits.items():
        if what == "not finite" or at.sum() < SEVERAL or at.mean() < HABIT:
            at = at & (what == "not finite")
        if at.any():
            found[rows[at]] = True
            checks.warn(
                f"{name}: key 'next_observations' is {what} at {at.sum()} of {len(rows)} ends of "
                "episodes; it is treated as not recorded there"
            )
    return found


def check_order(
    name: str,
    observations: np.ndarray,
    next_observations: np.ndarray,
    ends: np.ndarray,
    invalid: np.ndarray,
    checks: DatasetChecks,
) -> None:
    """Look whether each row inside an episode leads to the row behind it.

    Args:
      name: of the file, for messages.
      observations, next_observations: (N, m).
      ends: (N,) rows that end an episode.
      invalid: (N,) rows whose numbers say nothing; nothing is said of where they lead.
      checks: hears of few.

    Raises:
      DatasetError: many do not.
    """
    inner = np.flatnonzero(~ends[:-1] & ~invalid[:-1] & ~invalid[1:])
    if not len(inner):
        return
    deviation = np.maximum(observations[~invalid].std(0), 1e-6)
    off = np.abs(next_observations[inner] - observations[inner + 1]) > ROUNDING * deviation
    wrong = off.any(1)
    if not wrong.any():
        return
    problem = (
        f"{name}: {wrong.sum()} of {len(inner)} rows inside episodes do not lead to the row behind "
        f"them ('next_observations' is another state), first row {inner[wrong.argmax()]}"
    )
    if wrong.mean() > FEW and wrong.sum() >= SEVERAL:
        raise DatasetError(
            f"{problem}; rows are shuffled, or of several environments by turns, or flags of ends "
            "are missing or out of step: write each episode's rows in order, and flag its end"
        )
    checks.warn(f"{problem}; an end may not be flagged there")


def _same(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (ones == others).all(1)
