"""The search: of all states near a query, which has the highest value? (Algorithm 4, Equation 11)

States are sorted by value once. The answer to a query is then the first state in that order
within the radius (that passes the density test, if there is one). Two backends find it and give
the same answers: trees for a CPU, a tiled kernel for a GPU or TPU.
"""

import logging
import time

import jax
import numpy as np

from tskd_jax.machine import hosts, memory
from tskd_jax.stitching import tile_search
from tskd_jax.stitching.density_test import GaussianTest

BACKENDS = ("auto", "cpu", "accelerator")
SMALL = 1_000_000_000  # pairs; a smaller search takes less time than a trial of the backends
TRIAL_QUERIES, TRIAL_STATES = (512, 4096), 100_000  # for the trees; the kernel is tried on one tile

_log = logging.getLogger(__name__)


def best_neighbour(
    queries: np.ndarray,
    states: np.ndarray,
    values: np.ndarray,
    radius: float | np.floating,
    floor: np.ndarray | None = None,
    backend: str = "auto",
    test: GaussianTest | None = None,
    tested: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The state of highest value within the radius of each query; exact on every backend.

    All queries are searched at once, or half as many at a time whenever memory runs out.

    Args:
      queries: (Q, m).
      states: (N, m).
      values: (N,), finite or infinite, not NaN.
      radius: ρ ≥ 0, inclusive, in the units of the states (L2).
      floor: (Q,) only states of a higher value count; None: no floor.
      backend: `cpu` (trees), `accelerator` (a tiled kernel), or `auto` (`fastest_backends`).
      test: if given, only states that pass it count (density-first); None: only distance matters.
      tested: (N, m) what is tested for each state, in the same units: its next state, for instance.
        None: the state itself.

    Returns:
      (index (Q,) int64, value (Q,)): index -1 and value -inf where no state qualifies. Among equal
      values the lowest index wins.

    Raises:
      ValueError: shapes do not fit, an input is not finite, a value is NaN, or the radius negative.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r}; one of {BACKENDS}")
    queries, states, values, above, order = _ranked(queries, states, values, radius, floor)
    if tested is not None:
        tested = _real(tested)
        if tested.shape != states.shape or not np.isfinite(tested).all():
            raise ValueError(
                f"tested {tested.shape} must be finite, and as the states {states.shape}"
            )
        tested = tested[order]
    if backend == "auto":
        backend = _fastest(queries, states, above, radius, test)
    index, value = np.full(len(queries), -1), np.full(len(queries), -np.inf)
    if len(queries) and len(states):

        def compute(first: int, size: int) -> np.ndarray:
            rows = np.arange(first, min(first + size, len(queries)))
            test_of_rows = None if test is None else test.select(rows)
            search = queries[rows], states, above[rows], radius, test_of_rows, backend
            return _lowest_rank(*search, tested)

        rank = np.concatenate(memory.in_chunks(len(queries), len(queries), compute))
        found = rank < above
        index[found] = order[rank[found]]
        value[found] = values[index[found]]
    return index, value


def fastest_backends(
    queries: np.ndarray,
    states: np.ndarray,
    values: np.ndarray,
    radius: float | np.floating,
    floor: np.ndarray | None = None,
) -> tuple[str, str]:
    """`cpu` or `accelerator`: what `auto` chooses for a search; it is also logged.

    A small search runs on JAX's default device. For a larger one both backends are tried on some of
    the queries, which takes less than a second or two each.

    Args:
      queries, states, values, radius, floor: as in `best_neighbour`.

    Returns:
      (the backend without a test; with one). On a CPU its own search is the faster one with a test.
    """
    queries, states, _, above, _ = _ranked(queries, states, values, radius, floor)
    backend = _fastest(queries, states, above, radius, None)
    return backend, "cpu" if jax.default_backend() == "cpu" else backend


def _ranked(queries, states, values, radius, floor):
    """(queries, states by rank, values, above (Q,): number of ranks above the floor, order)."""
    queries, states, values = _real(queries), _real(states), _real(values)
    shapes = queries.shape, states.shape
    if any(len(s) != 2 or not s[1] for s in shapes) or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"queries {queries.shape} and states {states.shape} do not fit together")
    if values.shape != states.shape[:1]:
        raise ValueError(f"{len(states)} states and values of shape {values.shape}")
    if not (np.isfinite(queries).all() and np.isfinite(states).all()):
        raise ValueError("queries and states must be finite")
    if np.isnan(values).any() or not radius >= 0:
        raise ValueError("values must not be NaN, and the radius not negative")
    order = np.argsort(-values, kind="stable")
    if floor is None:
        above = np.full(len(queries), len(states))
    else:
        floor = _real(floor)
        if floor.shape != queries.shape[:1] or np.isnan(floor).any():
            raise ValueError("one floor for each query is needed, and none may be NaN")
        above = np.searchsorted(-values[order], -floor)
    return queries, states[order], values, above, order


def _real(array) -> np.ndarray:
    """Keep single precision; convert everything else to double."""
    array = np.asarray(array)
    return array if array.dtype == np.float32 else array.astype(np.float64)


def _lowest_rank(queries, states, above, radius, test, backend, tested=None) -> np.ndarray:
    """(Q,) the lowest rank that qualifies, or `above` where none does."""
    radius = float(radius)
    # The bound is exclusive: slightly wider, it makes a radius inclusive, even one of 0, however
    # distances were rounded.
    bound = max(radius * (1 + 1e-12), 1e-150)
    if backend == "cpu":
        return _search_trees(queries, states, above, bound, test, tested)
    rank = tile_search.first_candidate(queries, states, above, radius, test, tested=tested)
    # The kernel's limits are slightly wide, so that it misses nothing: what it found is verified.
    found = np.flatnonzero(rank < above)
    offset = queries[found].astype(np.float64) - states[rank[found]]
    right = np.sqrt(np.square(offset).sum(1)) < bound
    if test is not None:
        right &= test.passes(found, (states if tested is None else tested)[rank[found]])
    # The few queries whose state was just outside are searched again.
    rows = found[~right]
    again = None if test is None else test.select(rows)
    rank[rows] = _search_trees(queries[rows], states, above[rows], bound, again, tested)
    return rank


def _search_trees(queries, states, above, bound, test, tested):
    # Imported here, so that commands that stitch nothing do not wait for SciPy.
    from tskd_jax.stitching import tree_search

    if test is None:
        return tree_search.first_within(queries, states, above, bound)
    return tree_search.first_passing(queries, states, above, bound, test, tested)


def _fastest(queries, states, above, radius, test) -> str:
    device = jax.default_backend()
    choice = "cpu" if device == "cpu" else "accelerator"
    if len(queries) * len(states) <= SMALL:
        _log.info("search: %s, as the device is a %s", choice, device)
        return choice
    search = queries, states, above, radius, test
    seconds = {"cpu": _expected_of_trees(*search), "accelerator": _expected_of_tiles(*search)}
    choice = hosts.from_first(lambda: min(seconds, key=lambda backend: seconds[backend]))
    expected = ", ".join(f"{backend} {total:.1f} s" for backend, total in seconds.items())
    _log.info("search: %s; expected of %s queries: %s", choice, len(queries), expected)
    return choice


def _expected_of_trees(queries, states, above, radius, test) -> float:
    """Seconds, from two trials on some of the states: one part to build, one part to query."""
    every = -(-len(states) // TRIAL_STATES)
    few, many = (
        _seconds(queries, states[::every], -(-above // every), radius, test, "cpu", count)
        for count in TRIAL_QUERIES
    )
    each = max(0.0, many - few) / (TRIAL_QUERIES[1] - TRIAL_QUERIES[0])
    # Time to build grows with the states; time per query, as measured, with about their root.
    return few * every + each * len(queries) * every**0.5


def _expected_of_tiles(queries, states, above, radius, test) -> float:
    """Seconds, from a trial with one tile for each device."""
    count = min(len(queries), tile_search.tile_of_device().queries * jax.device_count())
    search = queries, states, above, radius, test, "accelerator", count
    _seconds(*search)  # compiles
    return _seconds(*search) * len(queries) / count


def _seconds(queries, states, above, radius, test, backend, count) -> float:
    """Seconds of a search with `count` of the queries."""
    rows = np.linspace(0, len(queries) - 1, count).astype(int)
    search = queries[rows], states, above[rows], radius, None if test is None else test.select(rows)
    begin = time.perf_counter()
    _lowest_rank(*search, backend)
    return time.perf_counter() - begin
