"""Splits a dataset into training data and held-out data."""

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories


def hold_out(trajectories: Trajectories, share: float) -> tuple[Trajectories, Trajectories | None]:
    """Hold out whole episodes, evenly spaced in the order of their returns.

    Args:
      trajectories: E episodes.
      share: share of the episodes to hold out; if this is less than one episode, none is held out.

    Returns:
      (episodes to train on; held-out episodes, or None).
    """
    episodes = len(trajectories.lengths)
    count = min(int(share * episodes + 1e-9), episodes - 1)
    if count < 1:
        return trajectories, None
    order = np.argsort(trajectories.returns(), kind="stable")
    held = np.zeros(episodes, bool)
    held[order[((np.arange(count) + 0.5) * episodes / count).astype(int)]] = True
    return trajectories.select(~held), trajectories.select(held)


def split_rows(
    trajectories: Trajectories, share: float, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """Split into (training rows, held-out rows): if there are several episodes, by whole episodes.

    At least one episode is held out. Rows that are neighbours in time are nearly identical, so
    held-out rows from a training episode would make the error look too small. With a single
    episode, its last rows are held out.

    A terminal transition to its own state, as `arrays.from_arrays` makes where the last state was
    not recorded, is in neither part: nothing is known of where it leads. It stays if its part would
    be empty.
    """
    still = (trajectories.observations == trajectories.next_observations).all(1)
    known = ~(trajectories.terminals & still)

    def of_known(rows: np.ndarray) -> np.ndarray:
        return rows[known[rows]] if known[rows].any() else rows

    episodes = len(trajectories.lengths)
    if episodes == 1:
        cut = max(1, int(trajectories.size * (1 - share)))
        rows = np.arange(trajectories.size)
        return of_known(rows[:cut]), of_known(rows[min(cut, trajectories.size - 1) :])
    order = np.asarray(jax.random.permutation(key, episodes))
    held = np.zeros(episodes, bool)
    filled = np.cumsum(trajectories.lengths[order]) - trajectories.lengths[order]
    held[order[filled < share * trajectories.size]] = True
    held[order[-1]] = False
    is_held = np.repeat(held, trajectories.lengths)
    return of_known(np.flatnonzero(~is_held)), of_known(np.flatnonzero(is_held))
