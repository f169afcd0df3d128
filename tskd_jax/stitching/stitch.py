"""Algorithm 4 for all trajectories at once.

Once the successor of every transition is known (`successors`), stitching a trajectory means
following pointers (`paths`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tskd_jax.data.trajectories import STITCHED, Trajectories, concatenate, from_columns
from tskd_jax.stitching.paths import follow
from tskd_jax.stitching.successors import Config

# (states (N, m), next states (N, m)) -> (actions (N, n), rewards (N,)), raw units
Price = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
# If more states than this share have a better neighbour, the radius restricts nothing: a warning.
MAX_NEIGHBOUR_SHARE = 0.99
MAX_REPEATS = 20  # mean number of walks per edge, above which there is a warning


def stitch(
    trajectories: Trajectories,
    successors: np.ndarray,
    price: Price,
    *,
    episode_limit: int,
    acceptance: float,
    allow_cycles: bool,
) -> tuple[Trajectories, dict[str, Any]]:
    """Replace each trajectory by its stitched version where that has a clearly higher return.

    Args:
      trajectories: E episodes.
      successors: (N,) from `find_successors`.
      price: gives the action and the reward of going from s to ŝ'; called once, with every distinct
        edge that is walked.
      episode_limit: of the environment.
      acceptance: p; the stitched one is taken if Σr̂ > Σr + p|Σr|.
      allow_cycles: as for `follow`.

    Returns:
      (E episodes; metrics: edges walked and unique, `moves`, trajectories stitched and replaced).
    """
    paths = follow(trajectories, successors, episode_limit, allow_cycles)
    walked = paths.transitions[paths.jumps]
    edges, edge_of_step = np.unique(walked, return_inverse=True)
    names = ("actions", "rewards", "next_observations", "terminals", "source", "origin")
    steps = {name: getattr(trajectories, name)[paths.transitions] for name in names}
    if len(edges):
        s, s_next = trajectories.observations[edges], trajectories.observations[successors[edges]]
        actions, rewards = price(s, s_next)
        completed = {
            "actions": actions[edge_of_step],
            "rewards": rewards[edge_of_step],
            "next_observations": s_next[edge_of_step],
            "terminals": False,
            "source": STITCHED,
        }
        for name, column in completed.items():
            steps[name][paths.jumps] = column
    new = from_columns(
        observations=trajectories.observations[paths.transitions], lengths=paths.lengths, **steps
    )
    old_returns, new_returns = trajectories.returns(), new.returns()
    # A path without a stitch is the old trajectory (or, beyond the limit, its beginning).
    stitched = np.bincount(paths.episode_of(), paths.jumps, len(paths.lengths)) > 0
    replaced = stitched & (new_returns > old_returns + acceptance * np.abs(old_returns))
    chosen = _choose(replaced, new, trajectories)
    return chosen, {
        "edges_walked": len(walked),
        "edges_unique": len(edges),
        "moves": moves(trajectories, edges, successors[edges]),
        "trajectories_stitched": int(stitched.sum()),
        "trajectories_replaced": int(replaced.sum()),
    }


def moves(trajectories: Trajectories, left: np.ndarray, entered: np.ndarray) -> dict[str, int]:
    """Count the stitches between quarters of the episodes by return: "FROM to TO" -> stitches.

    Args:
      trajectories: E episodes.
      left, entered: (S,) the transitions that a stitch connects.

    Returns:
      All 16 counts; quarter 1 has the lowest returns.
    """
    count = len(trajectories.lengths)
    quarter = np.empty(count, np.int64)
    quarter[np.argsort(trajectories.returns(), kind="stable")] = 4 * np.arange(count) // count
    ends = (quarter[trajectories.episode_of[rows]] for rows in (left, entered))
    counts = np.zeros((4, 4), np.int64)
    np.add.at(counts, tuple(ends), 1)
    return {f"{one + 1} to {two + 1}": int(counts[one, two]) for one, two in np.ndindex(4, 4)}


def stitching_warnings(config: Config, metrics: Mapping[str, Any]) -> list[str]:
    """Warnings about one epoch of one seed, for the user.

    Args:
      config: radius.
      metrics: those of `find_successors` and of `stitch`, together.
    """
    found = []
    walked, unique = metrics["edges_walked"], metrics["edges_unique"]
    if walked > MAX_REPEATS * max(unique, 1):
        found.append(
            f"{walked} stitched transitions repeat {unique} different edges; "
            "what looks like much data is a few stitches walked again and again"
        )
    share = metrics["better_neighbour_share"]
    if share == 0 or share > MAX_NEIGHBOUR_SHARE:
        extent = "nothing" if share == 0 else "nearly everything"
        found.append(
            f"{share:.2%} of the states have a better one within "
            f"config.stitching.radius={config.radius:g}: it finds {extent}; distances are in the "
            "units of config.stitching.radius_unit"
        )
    return found


def _choose(mask: np.ndarray, new: Trajectories, old: Trajectories) -> Trajectories:
    """Episode e of `new` where mask[e], else of `old`, in order."""
    episodes = np.arange(len(mask))
    both = concatenate([new, old])
    return both.select(np.where(mask, episodes, episodes + len(mask)))
