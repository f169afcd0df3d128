"""The search on an accelerator: tiles of queries against tiles of states.

A `jnp` kernel compares a tile of queries with tiles of states in descending order of value, until
every query of the tile is answered. States are searched in ranges of ranks that double in width;
between two ranges the unanswered queries are gathered, so that tiles stay full. Memory is bounded
by the tile, not by Q × N; queries are spread over all devices.

Distances are sums of squared differences in single precision, never ‖x‖² - 2xy + ‖y‖², which
cancels the digits that decide. Limits are widened by the possible rounding error: nothing that
qualifies is missed, and the caller must verify in double precision what is found.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from tskd_jax.machine import devices, memory
from tskd_jax.machine.platform import is_cpu
from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.rounding import single, upwards


class Tile(NamedTuple):
    """How many queries are compared with how many states at once."""

    queries: int
    states: int


# On a GPU or TPU a step must outweigh its launch; on a CPU it must fit the cache.
CPU_TILE, ACCELERATOR_TILE = Tile(256, 4096), Tile(4096, 16384)


def tile_of_device() -> Tile:
    """The tile for the platform that programs are traced for."""
    return CPU_TILE if is_cpu() else ACCELERATOR_TILE


class Ellipsoids(NamedTuple):
    """Where a query's answer may lie: Σ_d ((x_d - centre_d) · inverse_d)² ≤ limit, in each one.

    Attributes:
      centre, inverse: (Q, ellipsoids, m); limit: (Q, ellipsoids).
    """

    centre: Array | np.ndarray
    inverse: Array | np.ndarray
    limit: Array | np.ndarray


def first_candidate(
    queries: np.ndarray,
    states: np.ndarray,
    above: np.ndarray,
    radius: float,
    test: GaussianTest | None,
    tile: Tile | None = None,
    tested: np.ndarray | None = None,
) -> np.ndarray:
    """The lowest rank that may qualify for each query; no lower one does.

    Args:
      queries: (Q, m).
      states: (N, m) by rank.
      above: (Q,) only ranks below it count.
      radius: inclusive.
      test: the density test, or None.
      tile: its size; None: chosen by device.
      tested: (N, m) by rank, what is tested for each state; None: the state itself.

    Returns:
      (Q,) rank, or `above` where there is none.
    """
    count, size = queries.shape
    shards = jax.device_count()
    tile, padded = _tiling(tile or tile_of_device(), count, len(states), shards)
    x, y = single(queries), single(states)
    # How far the conversion moved states, and the rounding of m differences, squares and sums.
    moved_states = _moved(states, y)
    rounding = 1 + (size + 8) * 2.0**-22
    within = np.full(count, radius + _moved(queries, x) + moved_states, np.float64)
    with np.errstate(over="ignore"):
        limit, ellipsoids = upwards(np.square(within) * rounding), None
    if test is not None:
        mean, inverse = single(test.mean), 1 / test.deviation
        moved_tested = moved_states
        if tested is not None:
            rounded = single(tested)
            moved_tested, tested = _moved(tested, rounded), rounded
        moved = (_moved(test.mean, mean) + moved_tested) * inverse.max(-1)
        squares = test.square_limits()
        within = np.sqrt(np.maximum(squares, 0)) + moved
        limits = np.where(squares > 0, np.square(within) * rounding, -1)
        ellipsoids = Ellipsoids(mean, single(inverse), upwards(limits))

    # Queries with similar `above` share a tile, and each device gets a similar mix of them.
    order = np.argsort(-above, kind="stable")
    order = np.pad(order, (0, padded - count), mode="edge")
    order = order.reshape(-1, shards).T.reshape(-1)
    columns = jax.tree.map(lambda column: column[order], (x, limit, ellipsoids))
    above_column = above[order].astype(np.int32)
    mesh = devices.mesh()
    columns, above_column = devices.spread((columns, above_column))
    given = columns, above_column, *(_by_dimension(part, tile) for part in (y, tested))
    memory.make_sure(memory.of_call(_search, *given, tile=tile, mesh=mesh))
    best = _search(*given, tile=tile, mesh=mesh)
    answer = np.empty(count, np.int64)
    answer[order] = devices.fetch(best)
    return answer


def program(queries: int, size: int, members: int, mesh: Mesh) -> tuple[Any, tuple]:
    """The search with all states as queries, for devices that this machine may not have.

    Args:
      queries: Q = N.
      size: m.
      members: members of the ensemble whose densities are tested; 0: no test.
      mesh: the devices.

    Returns:
      (the jitted program; the shapes of its arguments, with their placement).
    """
    tile, rows = _tiling(tile_of_device(), queries, queries, mesh.size)
    candidates = -(-queries // tile.states) * tile.states

    def of_shape(*shape, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype)

    ellipsoids = None
    if members:
        ellipsoids = Ellipsoids(
            *(of_shape(rows, members, size),) * 2, limit=of_shape(rows, members)
        )
    columns = of_shape(rows, size), of_shape(rows), ellipsoids
    above = of_shape(rows, dtype=jnp.int32)
    spread = devices.shapes((columns, above), devices.BY_ROWS, mesh)
    states = devices.shapes(of_shape(size, candidates), devices.COPIED, mesh)
    search = jax.jit(functools.partial(_search, tile=tile, mesh=mesh))
    return search, (*spread, states, None)


def _tiling(tile: Tile, queries: int, states: int, shards: int) -> tuple[Tile, int]:
    """(the tile, no larger than needed; queries padded to whole tiles on each device)."""
    tile = Tile(
        min(tile.queries, _power_of_two(-(-queries // shards))),
        min(tile.states, _power_of_two(states)),
    )
    together = tile.queries * shards
    return tile, -(-queries // together) * together


def _by_dimension(states: np.ndarray | None, tile: Tile):
    """(m, N) states on the device, with N padded to whole tiles."""
    if states is None:
        return None
    return devices.copied(np.pad(states, ((0, -len(states) % tile.states), (0, 0))).T)


def _power_of_two(count: int) -> int:
    return max(8, 1 << max(count - 1, 0).bit_length())


def _moved(array: np.ndarray, rounded: np.ndarray) -> float:
    """An upper bound of the distance by which the conversion moved a row."""
    if array.dtype == np.float32:
        return 0.0
    return float(np.sqrt(array.shape[-1]) * np.abs(rounded - array).max(initial=0))


@functools.partial(jax.jit, static_argnames=("tile", "mesh"))
def _search(columns, above, states, tested, *, tile: Tile, mesh: Mesh):
    spread, copied = devices.BY_ROWS, devices.COPIED
    search = functools.partial(_search_shard, tile=tile)
    return jax.shard_map(
        search,
        mesh=mesh,
        in_specs=(spread, spread, copied, copied),
        out_specs=spread,
        check_vma=False,
    )(columns, above, states, tested)


def _search_shard(
    columns,
    above: Int[Array, " query"],
    states: Float[Array, "dim state"],
    tested: Float[Array, "dim state"] | None = None,
    *,
    tile: Tile,
) -> Int[Array, " query"]:
    """Search one device's queries: ranges of ranks double, unanswered queries move to the front."""
    count = states.shape[1]

    def search_range(carry):
        start, width, order, unanswered, best = carry
        stop = jnp.minimum(start + width, count)

        def search_tile(i, best):
            rows = jax.lax.dynamic_slice_in_dim(order, i * tile.queries, tile.queries)
            tile_columns = jax.tree.map(lambda column: column[rows], columns)
            found = _first_in_range(
                tile_columns, above[rows], best[rows], (states, tested), start, stop, tile
            )
            return best.at[rows].set(found, unique_indices=True)

        tiles = -(-unanswered // tile.queries)
        best = jax.lax.fori_loop(0, tiles, search_tile, best)
        goes_on = (best == above) & (above > stop)
        order = jnp.argsort(~goes_on, stable=True)
        return stop, 2 * width, order, goes_on.sum(), best

    def goes_on(carry):
        start, _, _, unanswered, _ = carry
        return (unanswered > 0) & (start < count)

    order = jnp.argsort(above <= 0, stable=True)
    begin = (jnp.int32(0), jnp.int32(tile.states), order, (above > 0).sum(), above)
    return jax.lax.while_loop(goes_on, search_range, begin)[-1]


def _first_in_range(columns, above, best, states, start, stop, tile: Tile):
    """(queries,) `best`, lowered to the first candidate among ranks start … stop."""
    queries, limit, ellipsoids = columns
    states, tested = states

    def compare(carry):
        start, best = carry
        block = jax.lax.dynamic_slice_in_dim(states, start, tile.states, 1)
        within = _squares(queries, block) <= limit[:, None]
        if ellipsoids is not None:
            if tested is not None:
                block = jax.lax.dynamic_slice_in_dim(tested, start, tile.states, 1)
            for i in range(ellipsoids.limit.shape[1]):
                scaled = _squares(ellipsoids.centre[:, i], block, ellipsoids.inverse[:, i])
                within &= scaled <= ellipsoids.limit[:, i, None]
        if not is_cpu():
            # One fused kernel would keep a whole tile in registers: NVIDIA's assembler took three
            # minutes for 11 dimensions, and had not finished with 17 after five.
            within = jax.lax.optimization_barrier(within)
        rank = start + jnp.arange(tile.states, dtype=jnp.int32)
        return start + tile.states, jnp.minimum(
            best, jnp.where(within, rank[None], jnp.iinfo(jnp.int32).max).min(1)
        )

    def unanswered(carry):
        start, best = carry
        # `best` equals `above` until a lower rank is found.
        return (start < stop) & ((best == above) & (start < above)).any()

    return jax.lax.while_loop(unanswered, compare, (start, best))[1]


def _squares(
    centre: Float[Array, "query dim"],
    block: Float[Array, "dim state"],
    inverse: Float[Array, "query dim"] | None = None,
) -> Float[Array, "query state"]:
    """Squared distances, dimension by dimension; compiled into the reduction that uses them."""
    total = jnp.zeros((), block.dtype)
    for d in range(block.shape[0]):
        difference = centre[:, d, None] - block[None, d]
        if inverse is not None:
            difference = difference * inverse[:, d, None]
        total = total + jnp.square(difference)
    return total
