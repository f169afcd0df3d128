"""The search: of all states near a query, which has the highest value? (Algorithm 4, Equation 11)

States are sorted by value once. A query is then answered by the first state in that order that lies
within the radius (and passes the density test, where there is one), so most of the states are
never looked at.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

BACKENDS = ("auto", "cpu", "accelerator")
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)


class GaussianTest(NamedTuple):
    """Which states a query accepts: min_i log N(x; mean_i, deviation_i) > threshold (Equation 9).

    Attributes:
      mean, deviation: (Q, members, m) of the query's predicted next state, raw units.
      threshold: (Q,) log-density to exceed.
    """

    mean: np.ndarray
    deviation: np.ndarray
    threshold: np.ndarray


def best_neighbour(
    queries: np.ndarray,
    states: np.ndarray,
    values: np.ndarray,
    radius: float,
    floor: np.ndarray | None = None,
    backend: str = "auto",
    test: GaussianTest | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The state of highest value within the radius of each query.

    Args:
      queries: (Q, m).
      states: (N, m).
      values: (N,), finite or infinite, not NaN.
      radius: ρ ≥ 0, inclusive, in the units of the states (L2).
      floor: (Q,) only states of a value above it count; None is no floor.
      backend: `cpu` (trees), `accelerator` (a tiled kernel), or `auto` (by JAX's default device).
      test: if given, only states that pass it count (density-first); None asks for distance alone.

    Returns:
      (index (Q,) int64, value (Q,)): index -1 and value -inf where no state qualifies. Of equal
      values the lowest index wins.

    Raises:
      ValueError: shapes do not fit, or an input is NaN, or the radius is negative.
    """
    queries, states = np.asarray(queries, np.float32), np.asarray(states, np.float32)
    values = np.asarray(values)
    if queries.ndim != 2 or states.ndim != 2 or queries.shape[1] != states.shape[1]:
        raise ValueError(f"queries {queries.shape} and states {states.shape} do not fit together")
    if values.shape != states.shape[:1]:
        raise ValueError(f"{len(states)} states and values of shape {values.shape}")
    if not (np.isfinite(queries).all() and np.isfinite(states).all()):
        raise ValueError("queries and states must be finite")
    if np.isnan(values).any() or not radius >= 0:
        raise ValueError("values must not be NaN, and the radius not negative")
    floored = floor is not None
    floor = np.asarray(floor) if floored else np.full(len(queries), -np.inf)
    if floor.shape != queries.shape[:1] or np.isnan(floor).any():
        raise ValueError("one floor for each query is needed, and none may be NaN")
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r}; one of {BACKENDS}")
    if backend == "auto":
        backend = "cpu" if jax.default_backend() == "cpu" else "accelerator"

    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    # How many states, in falling order of value, lie above each query's floor.
    above = np.searchsorted(-ranked, -floor, side="left" if floored else "right")
    search = _search_trees if backend == "cpu" else _search_tiles
    rank = (
        search(queries, states[order], above, float(radius), test)
        if len(states)
        else np.full(len(queries), -1)
    )
    found = rank >= 0
    index = np.where(found, order[rank], -1) if len(states) else rank
    value = np.where(found, values[index], -np.inf) if len(states) else np.full(len(rank), -np.inf)
    return index.astype(np.int64), value


FIRST_BAND, BAND_GROWTH = 1024, 2.0
NUMBERS_AT_ONCE = 30_000_000  # bounds the memory of a batch of pairs


def _search_trees(
    queries: np.ndarray,
    states: np.ndarray,
    above: np.ndarray,
    radius: float,
    test: GaussianTest | None,
) -> np.ndarray:
    """(Q,) rank of the first state that qualifies, -1 for none; a tree for each band of ranks.

    Bands grow geometrically from the top. Each is searched only for the queries that no band before
    it has answered, so a query that finds a good state early never meets the bulk of the data.
    """
    answer = np.full(len(queries), -1, np.int64)
    start, width = 0, FIRST_BAND
    open_queries = np.flatnonzero(above > 0)
    while start < len(states) and len(open_queries):
        stop = min(start + int(width), len(states))
        tree = cKDTree(states[start:stop], balanced_tree=False, compact_nodes=True)
        members = 1 if test is None else test.mean.shape[1]
        most = max(10_000, NUMBERS_AT_ONCE // (members * states.shape[1]))
        for part in _parts(tree, queries, open_queries, radius, most):
            query, rank = _pairs(tree, queries, part, radius)
            rank += start
            qualifies = rank < above[query]
            query, rank = query[qualifies], rank[qualifies]
            if test is not None and len(query):
                passes = _passes(test, query, states[rank])
                query, rank = query[passes], rank[passes]
            best = np.full(len(queries), len(states), np.int64)
            np.minimum.at(best, query, rank)
            answer[part] = np.where(best[part] < len(states), best[part], -1)
        open_queries = open_queries[(answer[open_queries] < 0) & (above[open_queries] > stop)]
        start, width = stop, width * BAND_GROWTH
    return answer


def _parts(tree: cKDTree, queries: np.ndarray, rows: np.ndarray, radius: float, most: int):
    """Split rows so that each part has about `most` neighbours in the tree."""
    if len(rows) * tree.n <= most:
        return [rows]
    counts = tree.query_ball_point(queries[rows], radius, return_length=True, workers=-1)
    rows, counts = rows[counts > 0], counts[counts > 0]
    cuts = np.flatnonzero(np.diff(np.cumsum(counts) // most)) + 1
    return [part for part in np.split(rows, cuts) if len(part)]


def _pairs(tree: cKDTree, queries: np.ndarray, rows: np.ndarray, radius: float):
    """(query, state) for each pair within the radius."""
    lists = tree.query_ball_point(queries[rows], radius, workers=-1)
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    flat = np.concatenate([np.asarray(found, np.int64) for found in lists])
    return np.repeat(rows, counts), flat


def _passes(test: GaussianTest, query: np.ndarray, x: np.ndarray) -> np.ndarray:
    deviation = test.deviation[query]
    z = (x[:, None] - test.mean[query]) / deviation
    density = (-0.5 * z**2 - np.log(deviation) - HALF_LOG_2PI).sum(-1).min(1)
    return density > test.threshold[query]


QUERY_TILE, STATE_TILE = 256, 4096


def _search_tiles(
    queries: np.ndarray,
    states: np.ndarray,
    above: np.ndarray,
    radius: float,
    test: GaussianTest | None,
) -> np.ndarray:
    """(Q,) rank of the first state that qualifies, -1 for none; tiles of queries against states."""
    count = len(queries)
    tile = min(STATE_TILE, max(8, len(states)))
    states = np.pad(states, ((0, -len(states) % tile), (0, 0)))
    # Queries of like reach share a tile, so that a tile stops early where all of it can.
    order = np.argsort(-above, kind="stable")
    order = np.pad(order, (0, -count % QUERY_TILE), mode="edge") if count else order
    columns = [queries[order], above[order].astype(np.int32)]
    if test is not None:
        columns += [test.mean[order], test.deviation[order], test.threshold[order]]
    tiles = [column.reshape(-1, QUERY_TILE, *column.shape[1:]) for column in columns]
    rank = np.asarray(_tiles(tuple(tiles), states, np.float32(radius), tile)).reshape(-1)
    answer = np.full(count, -1, np.int64)
    answer[order] = rank
    return answer


@functools.partial(jax.jit, static_argnames="tile")
def _tiles(query_tiles, states, radius, tile):
    return jax.lax.map(lambda columns: _one_tile(columns, states, radius, tile), query_tiles)


def _one_tile(columns, states, radius, tile):
    """(QUERY_TILE,) ranks of one tile of queries: state tiles in falling order of value."""
    queries, above, *gaussian = columns

    def search(carry):
        start, rank = carry
        block = jax.lax.dynamic_slice_in_dim(states, start, tile)
        # Differences, dimension by dimension: |x|² - 2xy + |y|² would lose the digits that decide.
        square = sum(
            jnp.square(queries[:, d, None] - block[None, :, d]) for d in range(states.shape[1])
        )
        position = start + jnp.arange(tile)
        hit = (square <= radius * radius) & (position[None] < above[:, None])
        if gaussian:
            hit &= _passes_block(block, *gaussian)
        first = jnp.where(hit.any(1), start + jnp.argmax(hit, 1), -1)
        return start + tile, jnp.where(rank >= 0, rank, first)

    def unanswered(carry):
        start, rank = carry
        return ((rank < 0) & (start < above)).any()

    start = (jnp.int32(0), jnp.full(queries.shape[0], -1, jnp.int32))
    return jax.lax.while_loop(unanswered, search, start)[1]


def _passes_block(block, mean, deviation, threshold):
    """(queries, states) whether a state passes each query's density test."""
    density = jnp.inf
    for member in range(mean.shape[1]):
        m, s = mean[:, member], deviation[:, member]
        squares = sum(
            jnp.square((block[None, :, d] - m[:, d, None]) / s[:, d, None])
            for d in range(block.shape[1])
        )
        constant = (jnp.log(s) + HALF_LOG_2PI).sum(-1)
        density = jnp.minimum(density, -0.5 * squares - constant[:, None])
    return density > threshold[:, None]
