"""Algorithm 4 for all trajectories at once.

The decision at a transition depends on that transition alone, not on the path that led there. So
one batched search gives every transition its successor, and stitching a trajectory is following
pointers; all trajectories follow theirs in lockstep.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tskd_jax.data.trajectories import STITCHED, Trajectories, concatenate, from_columns
from tskd_jax.machine.types import Config
from tskd_jax.models import dynamics, value
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.value import Value
from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import best_neighbour, fastest_backend

# (states (N, m), next states (N, m)) -> one row for each pair
PairFunction = Callable[[np.ndarray, np.ndarray], np.ndarray]
ROWS_AT_ONCE = 1 << 18  # density-tested together: bounds the memory of their Gaussians
VISITED_BYTES = 1 << 26  # of the record of which path has been where


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


def search_arguments(
    trajectories: Trajectories, values: Value, config: Config
) -> tuple[dict[str, Any], np.ndarray]:
    """What `best_neighbour` is asked: for each next state, a better state near it.

    Args:
      trajectories: N transitions; all their states are candidates.
      values: V.
      config: `config.stitching`: radius, radius_unit.

    Returns:
      (its arguments without backend and test; scale (m,) by which its states are divided).
    """
    states, next_states = trajectories.observations, trajectories.next_observations
    # A terminal state is worth nothing: the net was never trained there.
    floor = np.where(trajectories.terminals, np.float32(0), value.values(values, next_states))
    scale = np.ones(states.shape[1], np.float32)
    if config.radius_unit == "deviation":
        deviation = states.std(0)
        scale = np.where(deviation > 0, deviation, 1.0).astype(np.float32)
    return {
        "queries": next_states / scale,
        "states": states / scale,
        "values": value.values(values, states),
        "radius": config.radius,
        "floor": floor,
    }, scale


def find_successors(
    trajectories: Trajectories,
    ensemble: DynamicsEnsemble,
    values: Value,
    config: Config,
) -> tuple[np.ndarray, dict[str, Any]]:
    """For each transition, the transition to go on from instead of the recorded next one.

    Args:
      trajectories: N transitions; all their states are candidates.
      ensemble: the dynamics.
      values: V.
      config: `config.stitching`: radius, radius_unit, rule, tolerance, backend.

    Returns:
      (successor (N,): j, or -1 where no stitch is accepted; figures: the search's backend and how
      often each test passed).
    """
    states, next_states = trajectories.observations, trajectories.next_observations
    search, scale = search_arguments(trajectories, values, config)
    queries, floor, backend = search.pop("queries"), search.pop("floor"), config.backend
    if backend == "auto":
        backend = fastest_backend(queries, floor=floor, **search)
    search = functools.partial(best_neighbour, **search, backend=backend)
    index, _ = search(queries, floor=floor)
    improvable = index >= 0
    # Only those need a density.
    for rows in _parts(np.flatnonzero(improvable), ROWS_AT_ONCE):
        recorded = dynamics.log_mean_densities(ensemble, states[rows], next_states[rows])
        threshold = recorded - config.tolerance
        if config.rule == "density_first":
            mean, deviation = dynamics.predictions(ensemble, states[rows])
            # Gaussians are scaled as states are; log N of x/scale is log N of x plus Σ log scale.
            test = GaussianTest(mean / scale, deviation / scale, threshold + np.log(scale).sum())
            index[rows], _ = search(queries[rows], floor=floor[rows], test=test)
        else:
            densities = dynamics.log_densities(ensemble, states[rows], states[index[rows]])
            index[rows] = np.where(densities.min(1) > threshold, index[rows], -1)
    return index, {
        "search_backend": backend,
        "better_neighbour_share": float(improvable.mean()),
        "stitched_share": float((index >= 0).mean()),
    }


def _parts(rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Rows in parts of at most that many; none for no row."""
    return [rows[start : start + most] for start in range(0, len(rows), most)]


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


def stitch(
    trajectories: Trajectories,
    successors: np.ndarray,
    actions_between: PairFunction,
    rewards_between: PairFunction,
    *,
    episode_limit: int,
    acceptance: float,
    allow_cycles: bool,
) -> tuple[Trajectories, dict[str, int]]:
    """Replace each trajectory by its stitched one where that has a clearly higher return.

    Args:
      trajectories: E episodes.
      successors: (N,) from `find_successors`.
      actions_between: f(s, ŝ'), asked once for each edge that is walked.
      rewards_between: DDR-II, likewise.
      episode_limit: of the environment.
      acceptance: p; the stitched one is taken if Σr̂ > Σr + p|Σr|.
      allow_cycles: as of `follow`.

    Returns:
      (E episodes, figures: edges walked and unique, trajectories replaced).
    """
    paths = follow(trajectories, successors, episode_limit, allow_cycles)
    walked = paths.transitions[paths.jumps]
    edges, edge_of_step = np.unique(walked, return_inverse=True)
    names = ("actions", "rewards", "next_observations", "terminals", "source")
    steps = {name: getattr(trajectories, name)[paths.transitions] for name in names}
    if len(edges):
        s, s_next = trajectories.observations[edges], trajectories.observations[successors[edges]]
        priced = {
            "actions": actions_between(s, s_next)[edge_of_step],
            "rewards": rewards_between(s, s_next)[edge_of_step],
            "next_observations": s_next[edge_of_step],
            "terminals": False,
            "source": STITCHED,
        }
        for name, value in priced.items():
            steps[name][paths.jumps] = value
    new = from_columns(
        observations=trajectories.observations[paths.transitions], lengths=paths.lengths, **steps
    )
    old_returns, new_returns = trajectories.returns(), new.returns()
    # A path without a stitch is the old trajectory (or, beyond the limit, its beginning).
    stitched = np.bincount(_episode_of(paths), paths.jumps, len(paths.lengths)) > 0
    replaced = stitched & (new_returns > old_returns + acceptance * np.abs(old_returns))
    chosen = _choose(replaced, new, trajectories)
    return chosen, {
        "edges_walked": len(walked),
        "edges_unique": len(edges),
        "trajectories_stitched": int(stitched.sum()),
        "trajectories_replaced": int(replaced.sum()),
    }


def _episode_of(paths: Paths) -> np.ndarray:
    return np.repeat(np.arange(len(paths.lengths)), paths.lengths)


def _choose(mask: np.ndarray, new: Trajectories, old: Trajectories) -> Trajectories:
    """Episode e of `new` where mask[e], else of `old`, in order."""
    episodes = np.arange(len(mask))
    both = concatenate([new, old])
    return both.select(np.where(mask, episodes, episodes + len(mask)))
