"""Which transition to go on from: the search and the density test of Algorithm 4.

The decision at a transition depends on that transition alone, not on the path that led to it. So
one batched search finds the successor of every transition.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tskd_jax.data.normalizer import moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import ANY, COUNT, NOT_NEGATIVE, PROBABILITY, field, one_of
from tskd_jax.models import dynamics, value
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.value import Value
from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import BACKENDS, best_neighbour, fastest_backends

# Density-tested at once: bounds the memory of their Gaussians, and is how often progress is told.
ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Config:
    """`config.stitching`."""

    enabled: bool = field(True, ANY, "off: imagined trajectories are added, not stitched (DDR+BC)")
    epochs: int = field(2, COUNT, "K (Appendix B: 1 … 4, mostly 2)")
    radius: float = field(0.1, NOT_NEGATIVE, "ρ of Equation 11 (Appendix B: 0.1, 1 or 3 by task)")
    radius_unit: str = field(
        "raw", one_of(["raw", "deviation"]), "of ρ: raw units, or standard deviations"
    )
    candidates: str = field(
        "next",
        one_of(["next", "both"]),
        "states to stitch to: those near s' (paper), or also those after states near s (MBTS)",
    )
    rule: str = field(
        "value_first",
        one_of(["value_first", "density_first"]),
        "test the best state (paper), or take the best of the states that pass (MBTS)",
    )
    tolerance: float = field(0.0, NOT_NEGATIVE, "δ, nats forgiven by the density test (paper: 0)")
    max_disagreement_quantile: float = field(
        0.0,
        PROBABILITY,
        "a stitch is refused where DDR-II's members differ about its reward by more than this "
        "quantile of the same for recorded transitions; 0: off (the paper)",
    )
    acceptance: float = field(0.1, NOT_NEGATIVE, "p, gain that a stitched trajectory must have")
    allow_cycles: bool = field(
        True,
        ANY,
        "whether a stitched path may enter a transition twice (Algorithm 4 has no word against "
        "it): a circle that pays is then walked to the episode limit, and takes the filter in",
    )
    backend: str = field("auto", one_of(BACKENDS), "of the search; auto takes the faster one")


def search_arguments(
    trajectories: Trajectories, values: Value, config: Config
) -> tuple[dict[str, Any], np.ndarray]:
    """The arguments of `best_neighbour`: for each next state, look for a better state near it.

    Args:
      trajectories: N transitions; all their states are candidates.
      values: V.
      config: radius and radius_unit.

    Returns:
      (its arguments except backend and test; scale (m,) by which the states are divided).
    """
    states, next_states = trajectories.observations, trajectories.next_observations
    # A terminal state has value 0: V was never trained there.
    floor = np.where(trajectories.terminals, np.float32(0), value.values(values, next_states))
    scale = state_scale(trajectories, config)
    return {
        "queries": next_states / scale,
        "states": states / scale,
        "values": value.values(values, states),
        "radius": config.radius,
        "floor": floor,
    }, scale


def state_scale(trajectories: Trajectories, config: Config) -> np.ndarray:
    """(m,) the scale by which states are divided before they are compared."""
    if config.radius_unit != "deviation":
        return np.ones(trajectories.observations.shape[1], np.float32)
    _, deviation = moments(trajectories.observations)
    return np.where(deviation > 0, deviation, 1.0).astype(np.float32)


def find_successors(
    trajectories: Trajectories,
    ensemble: DynamicsEnsemble,
    values: Value,
    config: Config,
    on_progress: Callable[[int], None] = lambda done: None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """For each transition, the transition to continue from instead of the recorded next one.

    Args:
      trajectories: N transitions; all their states are candidates.
      ensemble: the dynamics, of one seed.
      values: V, of one seed.
      config: radius, radius_unit, candidates, rule, tolerance and backend.
      on_progress: called with the number of transitions that are decided.

    Returns:
      (successor (N,): j, or -1 where no stitch is accepted; metrics: the search's backend and how
      often each test passed).
    """
    states, next_states = trajectories.observations, trajectories.next_observations
    arguments, scale = search_arguments(trajectories, values, config)
    named = config.backend != "auto"
    backends = (config.backend,) * 2 if named else fastest_backends(**arguments)
    search = functools.partial(_best_candidate, arguments)
    if config.candidates == "both":
        search = functools.partial(search, followers=_followers(trajectories))
    index = search(np.arange(trajectories.size), backends[0])
    improvable = np.flatnonzero(index >= 0)
    # Only these need a density.
    for start in range(0, len(improvable), ROWS_AT_ONCE):
        on_progress(len(index) - len(improvable) + start)
        rows = improvable[start : start + ROWS_AT_ONCE]
        recorded = dynamics.log_mean_densities(ensemble, states[rows], next_states[rows])
        threshold = recorded - config.tolerance
        if config.rule == "density_first":
            mean, deviation = dynamics.predictions(ensemble, states[rows])
            # Gaussians are scaled like states: log N of x/scale is log N of x plus Σ log scale.
            test = GaussianTest(mean / scale, deviation / scale, threshold + np.log(scale).sum())
            index[rows] = search(rows, backends[1], test)
        else:
            densities = dynamics.log_densities(ensemble, states[rows], states[index[rows]])
            index[rows] = np.where(densities.min(1) > threshold, index[rows], -1)
    return index, {
        "search_backend": backends[0],
        "better_neighbour_share": len(improvable) / len(index),
        "stitched_share": float((index >= 0).mean()),
    }


def _followers(trajectories: Trajectories) -> np.ndarray:
    """(F,) the transitions that follow another one in their episode."""
    follows = np.ones(trajectories.size, bool)
    follows[trajectories.starts] = False
    return np.flatnonzero(follows)


def _best_candidate(
    arguments: Mapping[str, Any],
    rows: np.ndarray,
    backend: str,
    test: GaussianTest | None = None,
    followers: np.ndarray | None = None,
) -> np.ndarray:
    """(R,) for each of these transitions, the one with the best state to continue from, or -1.

    Args:
      arguments: from `search_arguments`; the states of all transitions are candidates near s'.
      rows: (R,) the transitions to search for.
      backend: of the search.
      test: of these transitions, or None.
      followers: (F,) transitions whose states are also candidates, for every transition whose s is
        near the state before them (MBTS); None: only states near s' are candidates.
    """
    states, values = arguments["states"], arguments["values"]
    common = {"radius": arguments["radius"], "floor": arguments["floor"][rows]}
    common |= {"backend": backend, "test": test}
    index, best = best_neighbour(arguments["queries"][rows], states, values, **common)
    if followers is None or not len(followers):
        return index
    # Neighbours of s are one step before the states that are valued and tested.
    found, value = best_neighbour(
        *(states[rows], states[followers - 1], values[followers]),
        **common,
        tested=states[followers],
    )
    found = np.where(found >= 0, followers[found], -1)
    better = (value > best) | ((value == best) & (found < index))  # ties: the first one
    return np.where(better, found, index)
