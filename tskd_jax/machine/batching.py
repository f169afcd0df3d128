"""Applies a compiled function to any number of rows, in batches of one shape."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tskd_jax.machine import devices, memory


def in_batches(
    function: Callable,
    *columns: np.ndarray,
    size: int = 8192,
    needs: Callable[..., int] = lambda *batch: 0,
) -> Any:
    """Apply `function` to the rows of `columns` in batches; concatenate its outputs on the host.

    Batches are padded by repeating the last row: to `size` or, for fewer rows, to the next power of
    two, and then to a multiple of the devices that share them. So the function compiles once or a
    few times, whatever the number of rows.

    Args:
      function: arrays (b, …) -> pytree of arrays (b, …); compiled by the caller.
      *columns: arrays of N rows each; N = 0 gives outputs of zero rows.
      size: rows per batch; fewer if memory runs out.
      needs: a batch -> the bytes that `function` needs for it; called once per size.
    """
    rows = len(columns[0])
    size = min(size, 1 << max(rows - 1, 0).bit_length())

    measured = set()

    def compute(start: int, size: int):
        index = np.clip(np.arange(start, start + devices.padded(size)), 0, max(rows - 1, 0))
        if rows:
            batch = [column[index] for column in columns]
        else:
            shapes = [(len(index), *column.shape[1:]) for column in columns]
            batch = [np.zeros(s, column.dtype) for s, column in zip(shapes, columns, strict=True)]
        valid = min(size, rows - start)
        batch = devices.spread(batch)
        if size not in measured:
            measured.add(size)
            memory.make_sure(needs(*batch))
        output = devices.fetch(function(*batch))
        return jax.tree.map(lambda leaf: leaf[:valid], output)

    outputs = memory.in_chunks(rows, size, compute)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *outputs)


def evenly(count: int, most: int) -> np.ndarray:
    """At most `most` evenly spaced indices of `count` items, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)
