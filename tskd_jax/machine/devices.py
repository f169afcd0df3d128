"""All devices as one mesh: what is spread over it, and what every device has a copy of.

Batches of a training, trajectories of a generation, queries of the search and of a trained model
are spread by rows; members of an ensemble and seeds by members. Parameters and datasets are copied.
XLA puts the communication in (`jax.jit` over `jax.sharding`). On one device nothing is placed and
nothing is constrained: the programs are those of one device, to the bit.

What does not divide: of a training, as many devices take part as divide members and batch, and the
others repeat their work (`mesh`); whatever else has rows is padded to a multiple (`padded`).
"""

import math
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

MEMBERS = ("seeds", "members")
AXES = (*MEMBERS, "rows", "copies")
BY_ROWS, COPIED = PartitionSpec("rows"), PartitionSpec()


def mesh(members: tuple[int, ...] = (), rows: int | None = None) -> Mesh:
    """All devices of all processes.

    Seeds and members come first: each goes its own way, while the gradients of rows must meet.

    Args:
      members: (), (members,) or (seeds, members) that a program has; the axes `seeds` and `members`
        are the largest of what is left that divide them.
      rows: of a batch; the axis `rows` is the largest of what is left that divides them. None: all
        of it, for rows that are padded.
    """
    shape = shape_of(jax.device_count(), members, rows)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def shape_of(count: int, members: tuple[int, ...], rows: int | None) -> tuple[int, ...]:
    """The sizes of `AXES` of so many devices; arguments as of `mesh`."""
    left, shape = count, []
    for size in (*(1,) * (len(MEMBERS) - len(members)), *members):
        shape.append(math.gcd(size, left))
        left //= shape[-1]
    of_rows = left if rows is None else math.gcd(rows, left)
    return (*shape, of_rows, left // of_rows)


def padded(rows: int) -> int:
    """So many rows that every device has as many."""
    return -(-rows // jax.device_count()) * jax.device_count()


def by_rows(tree: Any) -> Any:
    """Inside a program that runs `on` a mesh: these arrays are spread by their rows."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, BY_ROWS), tree)


def on(where: Mesh) -> Any:
    """Inside this context programs know the mesh; on one device they need none."""
    return jax.set_mesh(where) if where.size > 1 else nullcontext()


def spread(tree: Any, where: Mesh | None = None) -> Any:
    """Arrays, the same in every process, by their rows; these are a multiple of the devices."""
    return place(tree, BY_ROWS, where)


def copied(tree: Any, where: Mesh | None = None) -> Any:
    """Arrays, the same in every process, on every device."""
    return place(tree, COPIED, where)


def place(tree: Any, spec: PartitionSpec, where: Mesh | None = None) -> Any:
    """Arrays, the same in every process, on the mesh; on one device on that.

    Args:
      tree: of arrays of the host, of a device or of the mesh; keys too.
      spec: of every leaf.
      where: by default the mesh for padded rows.
    """
    if jax.device_count() == 1:
        return jax.tree.map(jax.numpy.asarray, tree)
    sharding = NamedSharding(where or mesh(), spec)
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if jax.process_count() == 1:
        return jax.device_put(leaf, sharding)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.jit(lambda x: x, out_shardings=sharding)(leaf)
    if isinstance(leaf, jax.Array) and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_put(jax.random.key_data(leaf), sharding))
    leaf = np.asarray(jax.numpy.asarray(leaf))  # in JAX's precision
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: leaf[index])


def fetch(tree: Any) -> Any:
    """Arrays as NumPy's, whole, in every process; every process must ask."""

    def whole(leaf):
        elsewhere = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if elsewhere and not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(whole, tree)
