"""A mean over the rows of a batch, and its gradient, a few rows at a time.

On a CPU the activations of a few rows fit into the caches, those of a whole batch do not: they are
written to memory in the forward pass and read back in the backward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tskd_jax.machine.platform import is_cpu

ROWS = 16  # of a piece, at least; for CQL these are 496 inputs of its critics


def mean_over_pieces(
    loss: Callable[[Any, Any, Any], tuple[jax.Array, Any]], params: Any, shared: Any, rows: Any
) -> tuple[jax.Array, Any]:
    """A loss that is a mean over rows, differentiable in its parameters only.

    Value and gradient are computed together, piece by piece, so nothing is stored for a backward
    pass and nothing is computed twice. Accelerators prefer many rows at once: there, all rows are
    one piece.

    Args:
      loss: (params, shared, rows) -> (() mean over the rows, pytree of further means).
      params: pytree of arrays.
      shared: pytree of arrays that all rows use; no gradient flows to it.
      rows: pytree of arrays (B, …); no gradient flows to it.

    Returns:
      The result of `loss` for all rows; no gradient flows through the further means.
    """
    fixed = jax.lax.stop_gradient
    batch = len(jax.tree.leaves(rows)[0])
    pieces = _pieces(batch) if is_cpu() else 1
    of_piece = jax.value_and_grad(loss, has_aux=True)

    def of_all(params, shared, rows):
        in_pieces = jax.tree.map(lambda leaf: leaf.reshape(pieces, -1, *leaf.shape[1:]), rows)
        first = jax.tree.map(lambda leaf: leaf[0], in_pieces)
        shapes = jax.eval_shape(of_piece, params, shared, first)
        zero = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), shapes)

        def add(total, piece):
            return jax.tree.map(jnp.add, total, of_piece(params, shared, piece)), None

        total, _ = jax.lax.scan(add, zero, in_pieces)
        return jax.tree.map(lambda leaf: leaf / pieces, total)

    if pieces > 1:
        # One seed after another: the activations of several together would not fit into the caches.
        of_all = jax.custom_batching.sequential_vmap(of_all)
    held = fixed(params)
    (value, means), gradient = fixed(of_all(held, fixed(shared), fixed(rows)))
    # Zero in value, with the computed gradient.
    moves = jax.tree.map(lambda g, p, h: jnp.sum(g * (p - h)), gradient, params, held)
    return value + jax.tree.reduce(jnp.add, moves), means


def _pieces(batch: int) -> int:
    """The most pieces of equal size that have at least `ROWS` rows each."""
    return next(n for n in range(max(1, batch // ROWS), 0, -1) if batch % n == 0)
