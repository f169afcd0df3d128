"""Which transitions are trained on, and which are held out."""

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories


def hold_out(trajectories: Trajectories, share: float) -> tuple[Trajectories, Trajectories | None]:
    """(episodes to train on, episodes held out): of every return as many, in order of return.

    Args:
      trajectories: E episodes.
      share: of the episodes; below one episode, none is held out.
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
    """(rows to train on, rows held out): whole episodes are held out, at least one of several.

    Neighbours in time are nearly copies of one another, so held-out rows of a trained-on episode
    would flatter. With a single episode its last rows are held out.
    """
    episodes = len(trajectories.lengths)
    if episodes == 1:
        cut = max(1, int(trajectories.size * (1 - share)))
        rows = np.arange(trajectories.size)
        return rows[:cut], rows[min(cut, trajectories.size - 1) :]
    order = np.asarray(jax.random.permutation(key, episodes))
    held = np.zeros(episodes, bool)
    filled = np.cumsum(trajectories.lengths[order]) - trajectories.lengths[order]
    held[order[filled < share * trajectories.size]] = True
    held[order[-1]] = False
    is_held = np.repeat(held, trajectories.lengths)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
