"""Trajectories: the common data structure that all parts of the method exchange."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import struct

from tskd_jax.machine.types import Leaf

RECORDED, IMAGINED, STITCHED = 0, 1, 2


@struct.dataclass
class Trajectories:
    """Episodes laid end to end: N transitions of E episodes.

    Attributes:
      observations: (N, m) float32, s_i in raw environment units.
      actions: (N, n) float32, a_i.
      rewards: (N,) float32, r_i.
      next_observations: (N, m) float32, s'_i. Inside an episode s'_i = s_{i+1}.
      terminals: (N,) bool, true where the environment ended the episode. An episode whose last
        transition is not terminal was truncated: V bootstraps through its end.
      lengths: (E,) int64, transitions per episode; they sum to N.
      source: (N,) int8, where a transition comes from: RECORDED, IMAGINED or STITCHED.
      origin: (N,) int64, the row of the recorded dataset that starts in the same state; -1 if s_i
        was not recorded. Selection and stitching preserve it.
    """

    observations: Leaf
    actions: Leaf
    rewards: Leaf
    next_observations: Leaf
    terminals: Leaf
    lengths: Leaf
    source: Leaf
    origin: Leaf

    @staticmethod
    def from_arrays(
        observations: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        terminals: np.ndarray,
        timeouts: np.ndarray | None = None,
        next_observations: np.ndarray | None = None,
    ) -> "Trajectories":
        """Build trajectories from recorded arrays, as in a file in D4RL's format.

        Args:
          observations: (N, m), before the action, episodes end to end.
          actions: (N, n).
          rewards: (N,).
          terminals: (N,), true where the environment ended the episode.
          timeouts: (N,), true where an episode was cut; if None, only at the last row.
          next_observations: (N, m), after the action; if None, the next row's observation is used
            and the last transition of each cut episode is dropped.

        Raises:
          DatasetError: the arrays are inconsistent (`tskd_jax.data.arrays.from_arrays`).
        """
        from tskd_jax.data import arrays  # imported here because `arrays` imports this module

        columns = {
            "observations": observations,
            "actions": actions,
            "rewards": rewards,
            "terminals": terminals,
            "timeouts": timeouts,
            "next_observations": next_observations,
        }
        return arrays.from_arrays(
            {key: np.asarray(column) for key, column in columns.items() if column is not None}
        )

    @property
    def size(self) -> int:
        """N, the number of transitions."""
        return len(self.rewards)

    @property
    def starts(self) -> np.ndarray:
        """(E,) index of each episode's first transition."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def ends(self) -> np.ndarray:
        """(E,) index of each episode's last transition."""
        return np.cumsum(self.lengths) - 1

    @property
    def episode_of(self) -> np.ndarray:
        """(N,) the episode of each transition."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @property
    def initial_observations(self) -> np.ndarray:
        """(E, m) the state in which each episode starts."""
        return self.observations[self.starts]

    def returns(self) -> np.ndarray:
        """(E,) float64, the undiscounted sum of each episode's rewards."""
        return np.bincount(self.episode_of, self.rewards, len(self.lengths))

    def fragments(self, episode_limit: int) -> np.ndarray:
        """(E,) bool, episodes that were cut early: truncated, and shorter than the limit.

        One step less than the limit still counts as full: files without next states lose the last
        transition of a truncated episode.
        """
        return ~np.asarray(self.terminals)[self.ends] & (self.lengths < episode_limit - 1)

    def returns_to_go(self, discount: float) -> np.ndarray:
        """(N,) float64, R_t = Σ_{u≥t} γ^{u-t} r_u up to the episode's end (section 4.4)."""
        returns = np.array(self.rewards, np.float64)
        longest_first = np.argsort(-self.lengths, kind="stable")
        ends, lengths = self.ends[longest_first], np.sort(self.lengths)
        before_end = np.arange(1, lengths.max(initial=0))
        longer = len(lengths) - np.searchsorted(lengths, before_end, side="right")
        for steps, count in zip(before_end, longer, strict=True):  # in all episodes at once
            rows = ends[:count] - steps
            returns[rows] += discount * returns[rows + 1]
        return returns

    def select(self, episodes: np.ndarray) -> "Trajectories":
        """The episodes with the given indices, in that order; or those of a boolean mask."""
        episodes = np.asarray(episodes)
        if episodes.dtype == bool:
            episodes = np.flatnonzero(episodes)
        lengths = self.lengths[episodes]
        return self.take(ranges(self.starts[episodes], lengths), lengths)

    def take(self, rows: np.ndarray, lengths: np.ndarray) -> "Trajectories":
        """The transitions with the given indices, as episodes of the given lengths."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Trajectories(lengths=np.asarray(lengths, np.int64), **columns)

    def pieces(self, stays: np.ndarray) -> "Trajectories":
        """Keep the transitions flagged by `stays` (N,); each removed one splits its episode."""
        rows = np.flatnonzero(stays)
        begins = np.isin(rows, self.starts) | (np.diff(rows, prepend=-2) > 1)
        return self.take(rows, np.diff(np.append(np.flatnonzero(begins), len(rows))))

    def started_from(self, rows: np.ndarray) -> "Trajectories":
        """Set `origin`: episode e starts in the state of the recorded transition `rows[e]` (E,)."""
        origin = np.full(self.size, -1, np.int64)
        origin[self.starts] = rows
        return self.replace(origin=origin)

    def truncate(self, lengths: np.ndarray) -> "Trajectories":
        """Keep the first `lengths[e]` transitions of each episode; drop episodes of length 0."""
        kept = lengths > 0
        return self.take(ranges(self.starts[kept], lengths[kept]), lengths[kept])


COLUMNS = (
    *("observations", "actions", "rewards", "next_observations", "terminals"),
    *("source", "origin"),
)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Concatenate the integer ranges [start, start + length) of all pairs."""
    offsets = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return offsets + np.arange(lengths.sum())


def concatenate(parts: Sequence[Trajectories]) -> Trajectories:
    """Concatenate the episodes of all parts, in order."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def from_columns(
    *,
    observations,
    actions,
    rewards,
    next_observations,
    terminals,
    lengths,
    source=RECORDED,
    origin=None,
) -> Trajectories:
    """Build trajectories from columns of any numeric type.

    `source` may be one number for all transitions. By default, `origin` is the transition's own row
    if it is recorded, and -1 otherwise.
    """
    rewards = np.asarray(rewards, np.float32)
    source = np.broadcast_to(np.asarray(source, np.int8), rewards.shape).copy()
    if origin is None:
        origin = np.where(source == RECORDED, np.arange(len(rewards)), -1)
    return Trajectories(
        observations=np.asarray(observations, np.float32),
        actions=np.asarray(actions, np.float32),
        rewards=rewards,
        next_observations=np.asarray(next_observations, np.float32),
        terminals=np.asarray(terminals, bool),
        lengths=np.asarray(lengths, np.int64),
        source=source,
        origin=np.asarray(origin, np.int64),
    )


def describe(trajectories: Trajectories) -> dict[str, Any]:
    """Statistics for a report: transitions, episodes, returns (mean, quantiles) and mean length."""
    returns = trajectories.returns()
    quantiles = np.quantile(returns, [0.0, 0.25, 0.5, 0.75, 0.9, 1.0])
    return {
        "transitions": trajectories.size,
        "episodes": len(trajectories.lengths),
        "terminal_episodes": int(trajectories.terminals[trajectories.ends].sum()),
        "mean_length": float(np.mean(trajectories.lengths)),
        "return_mean": float(returns.mean()),
        "return_quantiles": dict(
            zip(("0", "25", "50", "75", "90", "100"), map(float, quantiles), strict=True)
        ),
    }
