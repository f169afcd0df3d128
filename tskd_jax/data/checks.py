"""Checks of a dataset beyond its format: which problems are errors, and which are warnings."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError
from tskd_jax.policy import Bounds


@dataclass(frozen=True)
class DatasetChecks:
    """Requirements on a file.

    Attributes:
      drop_invalid: whether to drop episodes with rows that are not finite; otherwise such rows
        raise an error.
      episode_limit: the environment's maximum number of steps per episode; None if unknown.
      unordered: whether rows belong to no episodes (generated transitions); each row is then an
        episode of its own.
      warn: called with each warning, a line for the user.
    """

    drop_invalid: bool = False
    episode_limit: int | None = None
    unordered: bool = False
    warn: Callable[[str], None] = warnings.warn

    def check_split(self, name: str, ends: np.ndarray, rows: int, has_timeouts: bool) -> None:
        """Look for missing ends: more rows between two ends than an episode can have.

        If it is unknown how many that are, any rows after the last end are reported.

        Args:
          name: name of the file, for messages.
          ends: (E,) indices of the rows that end an episode.
          rows: number of rows in the file.
          has_timeouts: whether the file flags where episodes were cut.

        Raises:
          DatasetError: an episode is too long and the file does not flag where episodes were cut.
        """
        left = rows - 1 - int(ends[-1])
        if self.episode_limit is None:
            if left:
                self.warn(
                    f"{name}: the last {left} of {rows} rows have no end and are dropped; if they "
                    "should count, flag the last one in 'timeouts'"
                )
            return
        lengths = np.diff(ends, prepend=-1)
        too_long = lengths > self.episode_limit
        if too_long.any():
            first = int(too_long.argmax())
            problem = (
                f"{name}: {too_long.sum()} of {len(lengths)} episodes are longer than the "
                f"environment's {self.episode_limit} steps, the first from row "
                f"{ends[first] - lengths[first] + 1} on, {lengths[first]} steps"
            )
            if not has_timeouts:
                raise DatasetError(
                    f"{problem}; add 'timeouts', true where an episode was cut, so that none runs "
                    "on into the next"
                )
            self.warn(f"{problem}; where ends are missing, episodes run on into the next")
        if left > self.episode_limit:
            self.warn(
                f"{name}: the last {left} rows have no end and are dropped; an episode has at most "
                f"{self.episode_limit} steps"
            )


DEFAULT = DatasetChecks()
# A spike: what at most a thousandth of the rows reach, SPIKE times as far apart as all the others.
RARE, SPIKE = 1e-3, 3.0


def dataset_warnings(trajectories: Trajectories, bounds: Bounds) -> list[str]:
    """Warnings about a dataset that is usable but looks wrong.

    Args:
      trajectories: the dataset.
      bounds: bounds of the environment's actions.
    """
    found = []
    low, high = np.array(bounds.low), np.array(bounds.high)
    beyond = np.maximum(low - trajectories.actions, trajectories.actions - high)
    outside = (beyond > 1e-5 * (high - low) / 2).any(1)
    if outside.any():
        found.append(
            f"{outside.mean():.2%} of the actions lie outside {bounds}, by up to "
            f"{beyond.max():.3g}; a student cannot reach them"
        )
    if spikes := _spikes(trajectories.actions):
        found.append(spikes)
    returns = trajectories.returns()
    if len(returns) == 1:
        found.append(
            f"it is one episode of {trajectories.size} transitions, and no part of it is better "
            "than another; if it holds several, flag their ends, or number them in a column "
            "'episode' (or --config.dataset.episode=NAME)"
        )
    if len(returns) > 1 and np.ptp(returns) <= 1e-6 * np.abs(returns).max():
        found.append(
            f"all {len(returns)} returns are {returns[0]:.4g}: no episode is better than another; "
            "filtered BC keeps those that come first in the file, TSKD's filter all, and nothing "
            "can be learned from rewards; add rewards that say what is wanted"
        )
    if (trajectories.lengths == 1).all():
        found.append("every episode has one transition: nothing can be planned or stitched")
    return found


def _spikes(actions: np.ndarray) -> str:
    """A line if few rows of the actions (N, n) go far beyond all others in a dimension; else ""."""
    low, high = np.quantile(actions, (RARE, 1 - RARE), axis=0, method="nearest")
    least, most = actions.min(0), actions.max(0)
    far = np.flatnonzero((most - least > SPIKE * (high - low)) & (high > low))
    if not len(far):
        return ""
    first = far[0]
    others = f" (and {len(far) - 1} other dimensions alike)" if len(far) > 1 else ""
    return (
        f"action {first} lies in {low[first]:.3g} … {high[first]:.3g} in {1 - 2 * RARE:.1%} of the "
        f"rows, but reaches {least[first]:.3g} … {most[first]:.3g}{others}; if these few are "
        "glitches of the log, mend them: without a simulator a student may go as far"
    )
