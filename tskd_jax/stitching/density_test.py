"""The test that decides which states a query accepts, for density-first stitching (Equation 9)."""

from typing import NamedTuple

import numpy as np

from tskd_jax.models.dynamics import HALF_LOG_2PI


class GaussianTest(NamedTuple):
    """The test min_i log N(x; mean_i, deviation_i) > threshold.

    Attributes:
      mean, deviation: (Q, members, m) of the next state predicted for each query, in the units of
        the states.
      threshold: (Q,) log-density to exceed.
    """

    mean: np.ndarray
    deviation: np.ndarray
    threshold: np.ndarray

    def select(self, rows: np.ndarray) -> "GaussianTest":
        """The test of some of the queries."""
        return GaussianTest(*(column[rows] for column in self))

    def square_limits(self) -> np.ndarray:
        """(Q, members) the limit that Σ_d ((x_d - mean_d) / deviation_d)² must stay below."""
        constants = (np.log(self.deviation, dtype=np.float64) + HALF_LOG_2PI).sum(-1)
        return -2 * (self.threshold[:, None] + constants)

    def passes(self, query: np.ndarray, states: np.ndarray) -> np.ndarray:
        """(P,) whether states (P, m) pass the tests of these queries (P,); in double precision."""
        passes = np.ones(len(query), bool)
        for member in range(self.mean.shape[1]):
            # Few states pass the first member's test; only these meet the tests of the others.
            left = np.flatnonzero(passes)
            mean = self.mean[query[left], member].astype(np.float64)
            deviation = self.deviation[query[left], member].astype(np.float64)
            density = -0.5 * np.square((states[left] - mean) / deviation)
            density = (density - np.log(deviation) - HALF_LOG_2PI).sum(-1)
            passes[left] = density > self.threshold[query[left]]
        return passes

    def balls(self, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(centre (Q, m), radius (Q,)) in units of `unit` (m,): balls that hold all passing states.

        States that pass a member's test lie in an ellipsoid, which lies in a ball. A state must
        pass the tests of all members, so the smallest of these balls holds all passing states. The
        radius is 0 where nothing can pass.
        """
        limits = self.square_limits()
        # Slightly wider, so that rounding decides nothing here.
        unit = unit.astype(np.float64)
        radii = np.sqrt(np.maximum(limits, 0) + 1e-6) * (self.deviation / unit).max(-1)
        member = radii.argmin(1)
        rows = np.arange(len(member))
        radius = np.where((limits > 0).all(1), radii[rows, member], 0)
        return self.mean[rows, member] / unit, radius
