"""Checks that the rows of a file follow each other: repairs, warnings and errors.

A file gives the next state of each transition, and a next row. Inside an episode the two must
agree; at an end the next row belongs to another episode.
"""

import numpy as np

from tskd_jax.data.checks import DatasetChecks
from tskd_jax.errors import DatasetError

FEW = 0.02  # up to this share of inner rows with a wrong next state is only a warning
ROUNDING = 1e-4  # tolerance, in standard deviations of the states
STILL = 1e-6  # standard deviation below which a dimension counts as constant
# Rows are in no order if steps have JUMP of the square that a random order gives; episodes of fewer
# than LONG rows, and files of fewer than SHORTEST steps, say nothing. MOST rows are looked at.
JUMP, LONG, SHORTEST, MOST = 0.7, 10, 100, 50_000
# Share and number of ends with the same placeholder that count as the writer's convention.
HABIT, SEVERAL = 0.5, 3


def unknown_ends(
    name: str,
    observations: np.ndarray,
    next_observations: np.ndarray,
    ends: np.ndarray,
    checks: DatasetChecks,
) -> np.ndarray:
    """(N,) bool, ends whose recorded next state is only a placeholder and counts as not recorded.

    Args:
      name: name of the file, for messages.
      observations, next_observations: (N, m); next_observations may be not finite at ends.
      ends: (N,) bool, rows that end an episode.
      checks: receives the warnings.
    """
    rows = np.flatnonzero(ends)
    habits = {"not finite": ~np.isfinite(next_observations[rows]).all(1)}
    # Of unordered rows each is an end: what most of them have in common is not due to their ends.
    if not checks.unordered:
        following = np.roll(observations, -1, 0)[rows]
        inner = ~ends
        still = _same(next_observations[inner], observations[inner]).mean() if inner.any() else 1
        habits |= {
            # No row follows the last row of the file.
            "the first of the next episode": _same(next_observations[rows], following)
            & (rows < len(ends) - 1)
            & ~_same(following, observations[rows]),
            "zeros": (next_observations[rows] == 0).all(1) & (observations[rows] != 0).any(1),
        }
        if still < HABIT:
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
    """Check that the next state of each row inside an episode is the state of the following row.

    Args:
      name: name of the file, for messages.
      observations, next_observations: (N, m).
      ends: (N,) bool, rows that end an episode.
      invalid: (N,) bool, rows with invalid numbers, which are not checked.
      checks: receives a warning if only few rows are wrong.

    Raises:
      DatasetError: many rows are wrong.
    """
    inner = np.flatnonzero(~ends[:-1] & ~invalid[:-1] & ~invalid[1:])
    if not len(inner):
        return
    # In double precision: half precision overflows, and flags cannot be subtracted.
    deviation = np.maximum(observations[~invalid].std(0, dtype=np.float64), STILL)
    gap = np.subtract(next_observations[inner], observations[inner + 1], dtype=np.float64)
    wrong = (np.abs(gap, out=gap) > ROUNDING * deviation).any(1)
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


def check_continuity(
    name: str, observations: np.ndarray, ends: np.ndarray, checks: DatasetChecks
) -> None:
    """Warn if neighbouring rows differ as much as any two rows of an episode, as shuffled ones do.

    In each dimension the squared steps are compared with twice the variance within episodes, which
    rows in random order have. A robot's states change little by little in some dimension.

    Args:
      name: name of the file, for messages.
      observations: (N, m), finite but for invalid rows.
      ends: (N,) bool, rows that end an episode.
      checks: receives the warning.
    """
    observations, ends = observations[:MOST], ends[:MOST]
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    lengths = np.bincount(episode)
    finite = np.asarray(np.isfinite(observations).all(1))
    within = (lengths >= LONG)[episode] & finite
    inner = np.flatnonzero(~ends[:-1] & within[:-1] & within[1:])
    if len(inner) < SHORTEST:
        return
    # Rows that are not finite do not count, but NumPy would warn of their sums and differences.
    numbers = np.where(finite[:, None], observations, 0).astype(np.float64)
    sums = np.zeros((len(lengths), numbers.shape[1]))
    np.add.at(sums, episode, numbers)
    spread = np.square(numbers - (sums / lengths[:, None])[episode])[within].mean(0)
    steps = np.square(numbers[inner + 1] - numbers[inner]).mean(0)
    moving = spread > STILL**2
    if moving.any() and (steps[moving] > JUMP * 2 * spread[moving]).all():
        checks.warn(
            f"{name}: neighbouring rows differ as much as any two rows of an episode; if they were "
            "shuffled, write each episode's rows in the order of time"
        )


def _same(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) bool, rows that are equal in single precision: one of the two may be kept in double."""
    with np.errstate(invalid="ignore", over="ignore"):
        ones, others = (array.astype(np.float32, copy=False) for array in (ones, others))
        return (ones == others).all(1)
