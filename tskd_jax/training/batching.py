"""Batches: rows of arrays, drawn on the device."""

from collections.abc import Callable
from typing import Any

import jax

from tskd_jax.machine import devices


def uniform_rows(
    data: Any,
    key: jax.Array,
    batch_size: int,
    count: jax.Array | int | None = None,
    rows: jax.Array | None = None,
) -> Any:
    """Draw a batch of rows of every leaf, uniformly with replacement, spread over the devices.

    Args:
      data: pytree of arrays (N, …).
      key: randomness.
      batch_size: rows per batch.
      count: () draw from the first `count` rows only; None: from all.
      rows: (R,) the indices that are drawn from, of which the first `count` are used; None: all
        rows, in order.
    """
    if count is None:
        count = len(jax.tree.leaves(data)[0]) if rows is None else len(rows)
    index = devices.by_rows(jax.random.randint(key, (batch_size,), 0, count))
    if rows is not None:
        index = devices.by_rows(rows[index])
    return devices.by_rows(jax.tree.map(lambda leaf: leaf[index], data))


def draw_from(batch_size: int) -> Callable[[Any, jax.Array], Any]:
    """`Training.draw` for data (columns (N, …), rows (R,), how many of these rows are used)."""

    def draw(data, key):
        columns, rows, count = data
        return uniform_rows(columns, key, batch_size, count, rows)

    return draw
