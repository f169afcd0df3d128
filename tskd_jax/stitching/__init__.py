"""Stitching: which states may follow which, at what value, and the trajectories that result."""

from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import best_neighbour

# `stitch` is not among the names: here it is the module.
__all__ = ["GaussianTest", "best_neighbour"]
