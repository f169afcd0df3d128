"""The density-first search on a CPU by matrix products: every query against every state.

Where the balls around a query hold many states, asking a tree for them takes longer than comparing
all: Σ_d ((x_d - μ_d) / σ_d)² is a product of (x², x) and (1/σ², -2μ/σ²), and a constant. In single
precision the digits that decide may cancel, so the limit is widened by the possible error: nothing
that qualifies is missed, and what is found is verified.
"""

from collections.abc import Callable

import numpy as np

from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.rounding import single, upwards

BLOCK = 4096  # states at once
PAIRS = 1 << 20  # at once; they fit the cache
ROUNDING = 2.0**-23  # twice what a number in single precision may be off

Qualifies = Callable[[np.ndarray, np.ndarray], np.ndarray]


def lower(
    best: np.ndarray,
    rows: np.ndarray,
    tested: np.ndarray,
    test: GaussianTest,
    qualifies: Qualifies,
) -> None:
    """Lower `best` to the first rank that qualifies.

    Args:
      best: (Q,) only lower ranks count; changed in place.
      rows: (R,) the queries to search for.
      tested: (N, m) by rank, what is tested for each state.
      test: of all queries.
      qualifies: (query, rank), both (P,) -> (P,) whether the state of that rank is an answer; only
        asked of states that may pass the test.
    """
    above = best.copy()
    # Queries that look equally far are compared together.
    rows = rows[np.argsort(-above[rows], kind="stable")]
    centre = tested.mean(0, dtype=np.float64)
    offset = tested - centre
    forms, bounds = _forms(test.select(rows), centre, np.abs(offset).max(0, initial=0))
    columns = single(np.concatenate([np.square(offset), offset], 1).T)
    sums, below = np.empty(PAIRS, np.float32), np.empty(PAIRS, bool)
    for start in range(0, len(tested), BLOCK):
        block = columns[:, start : start + BLOCK]
        width = block.shape[1]
        unanswered = np.flatnonzero((best[rows] == above[rows]) & (above[rows] > start))
        for first in range(0, len(unanswered), PAIRS // BLOCK):
            part = unanswered[first : first + PAIRS // BLOCK]
            shape = len(part), width
            found = below[: len(part) * width]
            here = np.matmul(forms[part], block, out=sums[: found.size].reshape(shape))
            np.less_equal(here, bounds[part, None], out=found.reshape(shape))
            query, rank = np.divmod(np.flatnonzero(found), width)
            _settle(best, rows[part[query]], start + rank, qualifies)


def _forms(
    test: GaussianTest, centre: np.ndarray, farthest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(forms (Q, 2m), bounds (Q,)): a state x passes only if form · (x², x) ≤ bound.

    x is counted from `centre` (m,), and at most `farthest` (m,) away. Of an ensemble, the form is
    that of the member whose ellipsoid is smallest.
    """
    limits = test.square_limits()
    size = test.mean.shape[-1]
    with np.errstate(divide="ignore"):
        volumes = np.log(test.deviation).sum(-1) + size / 2 * np.log(np.maximum(limits, 0))
    members = np.arange(len(limits)), volumes.argmin(1)
    limit = limits[members]
    deviation = test.deviation[members].astype(np.float64)
    mean = test.mean[members] - centre
    weight = 1 / np.square(deviation)
    constant = (weight * np.square(mean)).sum(1)
    # The sum of the absolute terms bounds the error; a state that passes is within this reach.
    reach = np.abs(mean) + np.sqrt(np.maximum(limit, 0))[:, None] * deviation
    error = (2 * size + 8) * ROUNDING * _terms(weight, mean, np.minimum(reach, farthest))
    bounds = limit - constant + error
    forms = np.concatenate([weight, -2 * weight * mean], 1)
    # What would not fit single precision lets everything pass.
    fits = _terms(weight, mean, farthest) < np.finfo(np.float32).max / 4
    forms, bounds = np.where(fits[:, None], forms, 0), np.where(fits, bounds, np.inf)
    return single(forms), upwards(bounds)


def _terms(weight: np.ndarray, mean: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(Q,) the sum of the absolute terms of form · (x², x) for an x (Q, m) or (m,)."""
    with np.errstate(over="ignore"):
        return (weight * (np.square(x) + 2 * np.abs(mean) * x)).sum(1)


def _settle(best: np.ndarray, query: np.ndarray, rank: np.ndarray, qualifies: Qualifies) -> None:
    """Lower `best` by the first rank that qualifies of each query's; they are in ascending order.

    The first of each query is verified, then the next four of those that are left, and so on: where
    most qualify, most need not be verified.
    """
    most = 1
    while True:
        left = rank < best[query]
        query, rank = query[left], rank[left]
        if not len(query):
            return
        begins = np.flatnonzero(np.diff(query, prepend=-1))
        counts = np.diff(np.append(begins, len(query)))
        place = np.arange(len(query)) - np.repeat(begins, counts)
        asked = place < most
        right = qualifies(query[asked], rank[asked])
        np.minimum.at(best, query[asked][right], rank[asked][right])
        query, rank = query[~asked], rank[~asked]
        most *= 4
