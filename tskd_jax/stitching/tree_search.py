"""The search on a CPU: k-d trees over ranges of ranks, exact in double precision.

States come in descending order of value, so the best state near a query is the neighbour of lowest
rank. To ask a tree for every neighbour does far too much: hundreds are near, one is wanted. To ask
it for the few nearest is cheap, and tells whether a range of ranks holds any neighbour. So ranges
that double in width are searched from the top, and a range with neighbours is halved until its
first one is known.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from tskd_jax.machine.batching import evenly
from tskd_jax.stitching import product_search
from tskd_jax.stitching.density_test import GaussianTest

FIRST_RANGE = 4096
NEAREST = 4  # if fewer are found, all are known, and the range need not be halved
LEAF = 128  # ranks; a range this small is compared one by one
FEW_QUERIES = 32  # for so few, comparing with every state is cheaper than building a tree
MANY_QUERIES = 1000  # from here on, threads are worth starting
NUMBERS_AT_ONCE = 1 << 24  # bounds the memory of a batch of pairs
SAMPLE, SAMPLE_POINTS = 500, 20_000  # queries; states
PRODUCT = 1 / 150  # time to compare a query with a state by a product, in that of a listed pair


def first_within(
    queries: np.ndarray, states: np.ndarray, above: np.ndarray, radius: float
) -> np.ndarray:
    """The lowest rank within a distance of each query.

    Args:
      queries: (Q, m).
      states: (N, m) by rank.
      above: (Q,) only ranks below it count.
      radius: exclusive; above 0.

    Returns:
      (Q,) rank, or `above` where there is none.
    """
    # Queries that are near each other visit the same nodes, which then stay in the cache.
    order = cKDTree(queries, balanced_tree=False).indices if len(queries) else np.arange(0)
    best = np.empty(len(queries), np.int64)
    best[order] = _Search(queries[order], states, above[order], radius).run()
    return best


class _Search:
    """One search: `best[q]`, the lowest rank known for q, falls as ranges are searched."""

    def __init__(
        self, queries: np.ndarray, states: np.ndarray, above: np.ndarray, radius: float
    ) -> None:
        self.queries, self.states, self.above, self.radius = queries, states, above, radius
        self.best = above.astype(np.int64)

    def run(self) -> np.ndarray:
        rows = np.flatnonzero(self.above > 0)
        for start, stop in _ranges(len(self.states), 2):
            if not len(rows):
                break
            _, more = self._look(start, stop, rows)
            self._halve(start, stop, rows[more])
            # A query is done once it has a neighbour, or when its floor is above all that remain.
            unanswered = self.best[rows] == self.above[rows]
            rows = rows[unanswered & (self.above[rows] > stop)]
        return self.best

    def _look(self, start: int, stop: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower `best` by neighbours in a range.

        Returns:
          ((rows,) whether the range holds any; (rows,) whether it may hold more than those seen).
        """
        if stop - start <= LEAF or len(rows) <= FEW_QUERIES:
            return self._compare(start, stop, rows), np.zeros(len(rows), bool)
        tree = cKDTree(self.states[start:stop], balanced_tree=False)
        workers = -1 if len(rows) >= MANY_QUERIES else 1
        _, nearest = tree.query(
            self.queries[rows], NEAREST, distance_upper_bound=self.radius, workers=workers
        )
        near = nearest < tree.n
        rank = np.where(near, start + nearest, len(self.states)).min(1)
        self.best[rows] = np.minimum(self.best[rows], rank)
        return near[:, 0], near[:, -1]

    def _compare(self, start: int, stop: int, rows: np.ndarray) -> np.ndarray:
        """Lower `best` by comparing a whole range; (rows,) whether it holds a neighbour."""
        found = np.zeros(len(rows), bool)
        block = self.states[start:stop]
        size = max(1, NUMBERS_AT_ONCE // (4 * len(block)))
        for first in range(0, len(rows), size):
            part = rows[first : first + size]
            near = cdist(self.queries[part], block) < self.radius
            found[first : first + size] = hit = near.any(1)
            rank = np.where(hit, start + near.argmax(1), len(self.states))
            self.best[part] = np.minimum(self.best[part], rank)
        return found

    def _halve(self, start: int, stop: int, rows: np.ndarray) -> None:
        """Find the first neighbour of each of these queries in a range that holds one for each."""
        rows = rows[self.best[rows] > start]
        if not len(rows):
            return
        if stop - start <= LEAF:
            self._compare(start, stop, rows)
            return
        middle = (start + stop) // 2
        # A query with a known neighbour in the left half need not ask whether there is one.
        known = self.best[rows] < np.minimum(middle, self.above[rows])
        unknown = rows[~known]
        found, more = self._look(start, middle, unknown)
        self._halve(start, middle, np.concatenate([rows[known], unknown[more]]))
        right = unknown[~found]
        self._halve(middle, stop, right[self.best[right] > middle])


def _ranges(count: int, growth: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of growing ranges of ranks, from the top."""
    start, width = 0, FIRST_RANGE
    while start < count:
        yield start, min(start + width, count)
        start, width = start + width, growth * width


class _Balls(NamedTuple):
    """What to list for each query: the points within a radius of a centre."""

    points: np.ndarray
    centres: np.ndarray
    radii: np.ndarray


def first_passing(
    queries: np.ndarray,
    states: np.ndarray,
    above: np.ndarray,
    radius: float,
    test: GaussianTest,
    tested: np.ndarray | None = None,
) -> np.ndarray:
    """Like `first_within`, among states that pass a density test (density-first).

    `tested` (N, m), by rank, is what is tested for each state; None: the state itself.

    Every state that qualifies lies in the ball of the radius around its query, and in a ball around
    the test's mean, which is small where the dynamics are certain. The smaller one is listed; where
    even that holds too many, all states are compared (`product_search`).
    """
    best = above.astype(np.int64)
    if not len(queries):
        return best
    tested = states if tested is None else tested
    unit = np.median(test.deviation, (0, 1)).astype(np.float64)
    likely = _Balls(tested / unit, *test.balls(unit))
    near = _Balls(states, queries, np.full(len(queries), radius))
    limit, by_products = _limit(likely, near)
    is_likely_smaller = likely.radii <= limit

    def qualifies(query: np.ndarray, rank: np.ndarray) -> np.ndarray:
        offset = queries[query] - states[rank].astype(np.float64)
        near = np.sqrt(np.square(offset).sum(1)) < radius
        near[near] = test.passes(query[near], tested[rank[near]])
        return near

    for balls, chosen in ((likely, is_likely_smaller), (near, ~is_likely_smaller)):
        rows = np.flatnonzero(chosen & (above > 0) & (likely.radii > 0))
        if balls is near and by_products:
            product_search.lower(best, rows, tested, test, qualifies)
        else:
            _list(balls, rows, qualifies, above, best)
    return best


def _limit(likely: _Balls, near: _Balls) -> tuple[float, bool]:
    """What takes least time, from a sample of queries.

    Returns:
      (the radius up to which the likely balls are listed; whether the other queries are compared
      with all states instead of listing their near balls).
    """
    sample = evenly(len(near.radii), SAMPLE)
    sample = sample[np.argsort(likely.radii[sample])]
    count = len(near.points)
    some = evenly(count, SAMPLE_POINTS)
    in_likely, in_near = (
        cKDTree(balls.points[some], balanced_tree=False).query_ball_point(
            balls.centres[sample], balls.radii[sample], return_length=True
        )
        * (count / len(some))
        for balls in (likely, near)
    )
    # Pairs to list if the first k of the sample use the likely ball and the others the near one, or
    # what takes as long.
    by_lists = np.cumsum([0, *in_near[::-1]])[::-1]
    by_products = PRODUCT * count * np.arange(len(sample), -1, -1)
    pairs = np.cumsum([0, *in_likely]) + np.minimum(by_lists, by_products)
    k = pairs.argmin()
    limit = likely.radii[sample[k - 1]] if k else -np.inf
    return float(limit), bool(by_products[k] < by_lists[k])


def _list(
    balls: _Balls,
    rows: np.ndarray,
    qualifies: Callable[[np.ndarray, np.ndarray], np.ndarray],
    above: np.ndarray,
    best: np.ndarray,
) -> None:
    """Lower `best` for these queries by all points in their balls, as many pairs at once as fit."""
    most = NUMBERS_AT_ONCE // balls.points.shape[1]
    for start, stop in _ranges(len(balls.points), 4):
        tree = cKDTree(balls.points[start:stop], balanced_tree=False)
        first, size = 0, max(1, most // tree.n)
        while first < len(rows):
            part = rows[first : first + size]
            first += size
            query, rank = _pairs(tree, balls, part)
            # The next part is larger if this one had few pairs.
            size = max(1, min(4 * size, most // (1 + 4 * len(rank) // len(part))))
            rank += start
            kept = rank < above[query]
            query, rank = query[kept], rank[kept]
            kept = qualifies(query, rank)
            np.minimum.at(best, query[kept], rank[kept])
        rows = rows[(best[rows] == above[rows]) & (above[rows] > stop)]
        if not len(rows):
            return


def _pairs(tree: cKDTree, balls: _Balls, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(query, point) for each point of the tree in a query's ball."""
    workers = -1 if len(rows) >= MANY_QUERIES else 1
    lists = tree.query_ball_point(
        balls.centres[rows], balls.radii[rows], workers=workers, return_sorted=False
    )
    counts = np.fromiter(map(len, lists), np.int64, len(lists))
    points = np.fromiter(chain.from_iterable(lists), np.int64, counts.sum())
    return np.repeat(rows, counts), points
