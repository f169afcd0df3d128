"""Stitching: which states may follow which, at what value, and the trajectories that result."""

from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import best_neighbour

# The function `stitch` is not exported: here that name is the module.
__all__ = ["GaussianTest", "best_neighbour"]
