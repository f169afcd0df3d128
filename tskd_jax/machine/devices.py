"""All devices as one mesh: which arrays are sharded over it, and which are replicated.

Training batches, generated trajectories, and queries of the search and of trained models are
sharded by rows; seeds and ensemble members have axes of their own. Parameters and datasets are
replicated. XLA inserts the communication (`jax.jit` over `jax.sharding`). On one device no array is
placed and no sharding is constrained: programs are bit for bit those of a single device.

If sizes do not divide evenly, a training uses as many devices as divide seeds, members and batch,
and the others repeat their work (`mesh`). Other rows are padded to a multiple (`padded`).
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tskd_jax.errors import DeviceError

MEMBERS = ("seeds", "members")
AXES = (*MEMBERS, "rows", "copies")
BY_ROWS, COPIED = PartitionSpec("rows"), PartitionSpec()


def check() -> None:
    """Make sure that there is a device to compute on, and select single precision.

    Call it once, before anything is computed, and after `hosts.join`, which must come before any
    device is used. This package does not support double precision, which a shell may have enabled
    (JAX_ENABLE_X64=1): it is switched off for this process.

    Raises:
      DeviceError: JAX cannot use the platform that JAX_PLATFORMS names, or finds no device at all.
    """
    jax.config.update("jax_enable_x64", False)
    try:
        jax.devices()
    except Exception as error:  # RuntimeError for most platforms, a bare AssertionError for cuda
        cause = " ".join(str(error).partition("(set JAX_PLATFORMS")[0].split())[:200].rstrip(".")
        cause = f" ({cause})" if cause else ""
        if platforms := jax.config.jax_platforms:
            problem = f"JAX_PLATFORMS={platforms}: JAX finds no such device on this machine{cause}"
            remedy = "unset JAX_PLATFORMS to compute on what is there, or set JAX_PLATFORMS=cpu"
        else:
            problem = f"JAX finds no device that it can use{cause}"
            remedy = "set JAX_PLATFORMS=cpu to compute on the CPU alone"
        raise DeviceError(f"{problem}; {remedy}") from error


def described() -> str:
    """Kind and number of the devices that JAX sees."""
    return f"{jax.devices()[0].device_kind} × {jax.device_count()}"


def mesh(
    members: tuple[int, ...] = (), rows: int | None = None, among: Sequence[Any] | None = None
) -> Mesh:
    """Make a mesh of all devices of all processes.

    Seeds and members come first: they are independent, while gradients are summed over rows.

    Args:
      members: (), (seeds,) or (seeds, members) of a program. The axes `seeds` and `members` each
        take the largest size that divides both this number and the remaining devices.
      rows: rows of a batch. The axis `rows` takes the largest size that divides both this number
        and the remaining devices. None: all remaining devices, for rows that are padded.
      among: devices to use instead, such as those of a topology that is not here.
    """
    count = jax.device_count() if among is None else len(among)
    shape = shape_of(count, members, rows)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=among)


def shape_of(count: int, members: tuple[int, ...], rows: int | None) -> tuple[int, ...]:
    """The sizes of `AXES` for `count` devices; other arguments as for `mesh`."""
    left, shape = count, []
    for size in (*members, *(1,) * (len(MEMBERS) - len(members))):
        shape.append(math.gcd(size, left))
        left //= shape[-1]
    row_shards = left if rows is None else math.gcd(rows, left)
    return (*shape, row_shards, left // row_shards)


def padded(rows: int) -> int:
    """The number of rows rounded up to a multiple of the devices."""
    return -(-rows // jax.device_count()) * jax.device_count()


def by_rows(tree: Any) -> Any:
    """Shard arrays by rows, inside a program that runs `on` a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda leaf: jax.lax.with_sharding_constraint(leaf, BY_ROWS), tree)


def on(mesh: Mesh) -> Any:
    """A context in which programs know the mesh; it does nothing on a single device."""
    return jax.set_mesh(mesh) if mesh.size > 1 else nullcontext()


def spread(tree: Any, onto: Mesh | None = None) -> Any:
    """Shard arrays by rows; their number must be a multiple of the devices."""
    return place(tree, BY_ROWS, onto)


def copied(tree: Any, onto: Mesh | None = None) -> Any:
    """Replicate arrays on every device."""
    return place(tree, COPIED, onto)


def place(tree: Any, spec: PartitionSpec, onto: Mesh | None = None) -> Any:
    """Place arrays on the mesh, or on the single device.

    Args:
      tree: arrays on the host, on a device or on the mesh, and keys; the same in every process.
      spec: how each leaf is sharded.
      onto: the mesh; by default the one for padded rows.
    """
    if jax.device_count() == 1:
        return jax.tree.map(jax.numpy.asarray, tree)
    sharding = NamedSharding(onto or mesh(), spec)
    return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)


def shapes(tree: Any, spec: PartitionSpec, onto: Mesh) -> Any:
    """As `place`, but returns shapes only, for programs that are compiled and not run."""
    sharding = NamedSharding(onto, spec)

    def of_leaf(leaf):
        array = jax.typeof(leaf) if not hasattr(leaf, "dtype") else leaf
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map(of_leaf, tree)


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
    """Gather whole arrays as NumPy arrays in every process; every process must call it."""

    def gather(leaf):
        remote = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if remote and not leaf.is_fully_replicated:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(gather, tree)
