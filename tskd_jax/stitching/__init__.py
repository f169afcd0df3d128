"""Stitching: which states may follow which, at what value, and the trajectories that result."""

from tskd_jax.stitching.neighbours import GaussianTest, best_neighbour
from tskd_jax.stitching.stitch import find_successors, follow, stitch

__all__ = ["GaussianTest", "best_neighbour", "find_successors", "follow", "stitch"]
