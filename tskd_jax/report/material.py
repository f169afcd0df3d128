"""The data that a report shows, stored beside the results as `report.npz`.

A run's folder does not contain the recorded dataset. This file has a sample of its states, its
returns, the share of each episode that the last method's students imitate, and a few trajectories
before and after stitching.
"""

from pathlib import Path

import numpy as np

from tskd_jax.data.trajectories import RECORDED, STITCHED, Trajectories
from tskd_jax.errors import WorkdirError
from tskd_jax.report import summary

FILE = "report.npz"
STATES = 3000  # size of the sample of recorded states
EXAMPLES, STEPS = 3, 300  # number of stitched trajectories, and steps of each


def collect(recorded: Trajectories, data: Trajectories) -> dict[str, np.ndarray]:
    """Collect the arrays of the file, by name.

    Args:
      recorded: E episodes of N transitions.
      data: the data that the students imitate, for the first seed of the pipeline.

    Returns:
      `returns`, `lengths` and `kept` (E,), where `kept` is the imitated share of an episode's
      transitions; `states` (S, m), `state_returns` and `rewards` (S,) of a sample; for each example
      i, `before_i` and `after_i` (T, 3): the first two dimensions of the state and the reward, and
      `stitched_i` (T,): whether a step is a stitch.
    """
    episode_of, returns = recorded.episode_of, recorded.returns()
    row_of = np.full(recorded.origin.max() + 1, -1)
    row_of[recorded.origin] = np.arange(recorded.size)
    imitated = row_of[data.origin[(data.source == RECORDED) & (data.origin >= 0)]]
    counts = np.bincount(episode_of[np.unique(imitated)], minlength=len(recorded.lengths))
    rows = np.sort(np.random.default_rng(0).permutation(recorded.size)[:STATES])
    found = {
        "returns": returns,
        "lengths": recorded.lengths,
        "kept": (counts / recorded.lengths).astype(np.float32),
        "states": recorded.observations[rows],
        "state_returns": returns[episode_of[rows]],
        "rewards": recorded.rewards[rows],
    }
    for number, episode in enumerate(_stitched_episodes(data)):
        here = slice(data.starts[episode], data.starts[episode] + data.lengths[episode])
        found[f"after_{number}"] = _shown(data, here)
        found[f"stitched_{number}"] = data.source[here][:STEPS] == STITCHED
        origin = data.origin[here.start]
        if origin >= 0:
            begun = episode_of[row_of[origin]]
            start = recorded.starts[begun]
            found[f"before_{number}"] = _shown(
                recorded, slice(start, start + recorded.lengths[begun])
            )
    return found


def read(folder: Path) -> dict[str, np.ndarray]:
    """Read the file of a run; empty if its version wrote none, or if it is damaged."""
    try:
        return summary.arrays(folder / FILE)
    except WorkdirError:
        return {}


def _stitched_episodes(data: Trajectories) -> np.ndarray:
    """The `EXAMPLES` episodes of highest return that contain a stitch."""
    has = np.bincount(data.episode_of, data.source == STITCHED, len(data.lengths)) > 0
    found = np.flatnonzero(has)
    return found[np.argsort(-data.returns()[found], kind="stable")][:EXAMPLES]


def _shown(data: Trajectories, rows: slice) -> np.ndarray:
    states = data.observations[rows][:STEPS, [0, min(1, data.observations.shape[1] - 1)]]
    return np.concatenate([states, data.rewards[rows][:STEPS, None]], 1)
