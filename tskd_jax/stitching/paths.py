"""Stitched paths: pointers from transition to transition, followed for all trajectories at once."""

from typing import NamedTuple

import numpy as np

from tskd_jax.data.trajectories import Trajectories

VISITED_BYTES = 1 << 26  # bounds the memory that records which path has visited what


class Paths(NamedTuple):
    """The walked paths, concatenated.

    Attributes:
      transitions: (P,) the transition whose state each step starts from.
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
    """Walk from every episode's start: to the successor if there is one, else the recorded step.

    A path ends when it takes a recorded transition that is the last of its episode, or at the
    episode limit. Without cycles no path enters a transition twice: if it has already visited the
    successor, it takes the recorded step; if that also leads to a visited transition, it ends.

    Args:
      trajectories: N transitions.
      successors: (N,) the transition to continue from, or -1.
      episode_limit: maximum number of steps of a path.
      allow_cycles: whether a path may enter a transition twice.
    """
    ends = np.zeros(trajectories.size, bool)
    ends[trajectories.ends] = True
    starts = trajectories.starts
    # One bit per path and transition: paths are walked in groups, to bound the memory.
    row_bytes = 0 if allow_cycles else -(-trajectories.size // 8)
    group = len(starts) if allow_cycles else max(1, VISITED_BYTES // row_bytes)
    parts = [
        _follow(starts[first : first + group], successors, ends, episode_limit, row_bytes)
        for first in range(0, len(starts), group)
    ]
    return Paths(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _follow(starts, successors, ends, episode_limit, row_bytes) -> Paths:
    """The paths from these starts, in lockstep; `row_bytes` 0 allows cycles."""
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
    # Steps were collected time step by time step; reorder them path by path.
    walkers, transitions, jumps = (np.concatenate(column) for column in zip(*columns, strict=True))
    order = np.argsort(walkers, kind="stable")
    return Paths(transitions[order], jumps[order], lengths)
