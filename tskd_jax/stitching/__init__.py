"""Stitching: which states may follow which, at what value, and the trajectories that result."""

from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import best_neighbour
from tskd_jax.stitching.stitch import find_successors, follow, stitch

__all__ = ["GaussianTest", "best_neighbour", "find_successors", "follow", "stitch"]
