"""Stitched paths: pointers from transition to transition, followed by all trajectories at once."""

from typing import NamedTuple

import numpy as np

from tskd_jax.data.trajectories import Trajectories

VISITED_BYTES = 1 << 26  # bounds the memory that records which path has visited what


class Paths(NamedTuple):
    """The walked paths, end to end.

    Attributes:
      transitions: (P,) the transition from whose state each step starts.
      jumps: (P,) whether the step goes to that transition's successor instead of its next state.
      lengths: (E,) steps of each path.
    """

    transitions: np.ndarray
    jumps: np.ndarray
    lengths: np.ndarray

    def episode_of(self) -> np.ndarray:
        """(P,) the path of each step."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


def follow(
    trajectories: Trajectories, successors: np.ndarray, episode_limit: int, allow_cycles: bool
) -> Paths:
    """Walk from every episode's start: to the successor where there is one, else one step on.

    A path ends when it takes a recorded transition that is its episode's last, or at the episode
    limit. Without cycles no path enters a transition twice: it takes the recorded step where the
    successor is one it has been at, and ends where that step leads back, too.

    Args:
      trajectories: N transitions.
      successors: (N,) the transition to go on from, or -1.
      episode_limit: most steps of a path.
      allow_cycles: whether a path may enter a transition twice.
    """
    ends = np.zeros(trajectories.size, bool)
    ends[trajectories.ends] = True
    starts = trajectories.starts
    # One bit for each path and transition: paths are walked in groups of bounded memory.
    row_bytes = 0 if allow_cycles else -(-trajectories.size // 8)
    group = len(starts) if allow_cycles else max(1, VISITED_BYTES // row_bytes)
    parts = [
        _follow(starts[first : first + group], successors, ends, episode_limit, row_bytes)
        for first in range(0, len(starts), group)
    ]
    return Paths(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _follow(starts, successors, ends, episode_limit, row_bytes) -> Paths:
    """The paths from those starts, in lockstep; `row_bytes` 0 allows cycles."""
    now = starts.copy()
    walking = np.arange(len(now))
    lengths = np.zeros(len(now), np.int64)
    visited = np.zeros((len(now), row_bytes), np.uint8)

    def is_visited(walkers, transitions):
        return visited[walkers, transitions >> 3] >> (transitions & 7) & 1 > 0

    columns: list[tuple[np.ndarray, ...]] = []
    for _ in range(episode_limit):
        here = now[walking]
        jumps = successors[here] >= 0
        goes_on = jumps | ~ends[here]
        following = np.where(jumps, successors[here], np.where(goes_on, here + 1, 0))
        if row_bytes:
            visited[walking, here >> 3] |= (1 << (here & 7)).astype(np.uint8)
            returns = jumps & is_visited(walking, following)
            jumps &= ~returns
            goes_on &= ~returns | ~ends[here]
            following = np.where(returns & goes_on, here + 1, following)
            goes_on &= ~is_visited(walking, following)
        columns.append((walking, here, jumps))
        lengths[walking] += 1
        now[walking] = following
        walking = walking[goes_on]
        if not len(walking):
            break
    # Steps were collected time by time; paths are read trajectory by trajectory.
    walkers, transitions, jumps = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(walkers, kind="stable")
    return Paths(transitions[order], jumps[order], lengths)
