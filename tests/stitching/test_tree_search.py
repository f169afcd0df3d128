"""Tests of the trees, with constants so small that little cases go through every part.

Over 300 lines: the small trees are drawn out by hand.
"""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.spatial import distance
from test_neighbours import cloud, density_case, distances, far, grid, log_normal

from tskd_jax.stitching import tree_search
from tskd_jax.stitching.tree_search import first_passing, first_within


class Constants(NamedTuple):
    FIRST_RANGE: int
    NEAREST: int = 2
    LEAF: int = 1
    FEW_QUERIES: int = 0
    NUMBERS_AT_ONCE: int = 1 << 24
    MANY_QUERIES: int = 1000
    SAMPLE: int = 500
    SAMPLE_POINTS: int = 20_000
    PRODUCT: float = 1e9  # lists, whatever they hold

    def set(self, monkeypatch) -> None:
        for name, value in self._asdict().items():
            monkeypatch.setattr(tree_search, name, value)


# 150 ranks in up to 8 ranges; everything by trees, or some by distances; one pair at once.
SMALL = [
    Constants(1),
    Constants(1, NEAREST=3, LEAF=4, NUMBERS_AT_ONCE=1),
    Constants(5, LEAF=2, FEW_QUERIES=8, NUMBERS_AT_ONCE=100, SAMPLE=12),
    Constants(32, NEAREST=4, LEAF=3, MANY_QUERIES=1),
    Constants(64, LEAF=16, FEW_QUERIES=30, NUMBERS_AT_ONCE=2000, MANY_QUERIES=5, SAMPLE=20),
    Constants(1024, LEAF=7),
]


def first_rank(fits, above):
    """(Q,) the first of the ranks that fit, `above` where it is not below it."""
    return np.where(fits.any(1), np.minimum(fits.argmax(1), above), above)


def floors(rng, queries, states):
    """Ranks that count for each query: none, all and any number of them."""
    return rng.choice([0, 1, 8, states // 2, states - 1, states, states], queries)


@pytest.mark.parametrize("constants", SMALL)
@pytest.mark.parametrize("points", [cloud, grid, far])
@pytest.mark.parametrize("dimension", [1, 3, 11])
def test_the_first_within(monkeypatch, constants, points, dimension):
    constants.set(monkeypatch)
    for seed in range(10):
        rng = np.random.default_rng([seed, dimension])
        x, y = points(rng, dimension)
        above = floors(rng, len(x), len(y))
        # From about one neighbour for each query to half of all states.
        apart = np.unique(distances(x, y))
        radius = float(apart[int(len(apart) * 10 ** rng.uniform(-2, -0.3))]) + 1e-5
        expected = first_rank(distances(x, y) < radius, above)
        np.testing.assert_array_equal(first_within(x, y, above, radius), expected, f"{seed=}")


def test_the_radius_is_exclusive():
    y = np.array([[5.0], [3.0], [2.0]])
    above = np.array([3])
    assert first_within(np.zeros((1, 1)), y, above, 3.0).tolist() == [2]
    assert first_within(np.zeros((1, 1)), y, above, np.nextafter(3.0, 4.0)).tolist() == [1]


def test_ranges_grow_from_the_top(monkeypatch):
    monkeypatch.setattr(tree_search, "FIRST_RANGE", 2)
    assert list(tree_search._ranges(13, 2)) == [(0, 2), (2, 6), (6, 13)]
    assert list(tree_search._ranges(15, 4)) == [(0, 2), (2, 10), (10, 15)]
    assert list(tree_search._ranges(2, 2)) == [(0, 2)]
    assert list(tree_search._ranges(0, 2)) == []


@pytest.mark.parametrize("constants", [Constants(64), Constants(16, NEAREST=3, LEAF=3)])
def test_halving_finds_the_first_of_many(monkeypatch, constants):
    # From rank `first` on all 64 are near, and the nearer the lower their value: those that a tree
    # gives are the last ones, and only halving leads to the first.
    constants.set(monkeypatch)
    ranks = np.arange(64)
    for first in range(65):
        y = np.where(ranks < first, 10, 1 - ranks / 100)[:, None]
        above = np.array([64, 0, 20, first, first + 1])
        found = first_within(np.zeros((5, 1)), y, above, 1.5)
        assert found.tolist() == [first, 0, min(first, 20), first, first]


class Looks:
    """Records which ranges are looked at, and for how many queries."""

    def __init__(self, monkeypatch) -> None:
        self.seen: list[tuple[int, int, int]] = []
        look = tree_search._Search._look

        def record(search, start, stop, rows):
            self.seen.append((start, stop, len(rows)))
            return look(search, start, stop, rows)

        monkeypatch.setattr(tree_search._Search, "_look", record)


def test_answered_queries_are_not_asked_again(monkeypatch):
    Constants(2, FEW_QUERIES=100).set(monkeypatch)
    looks = Looks(monkeypatch)
    # State r lies at 10 r, so a query at 10 r is answered by rank r alone.
    y = 10.0 * np.arange(14)[:, None]
    x = np.array([[0.0], [10.0], [20.0], [30.0], [130.0], [130.0], [130.0], [130.0], [130.0]])
    # Floors: four of the five queries at the end are done where their ranks end.
    above = np.array([14, 14, 14, 14, 14, 0, 1, 2, 7])
    found = first_within(x, y, above, 1.0)
    assert found.tolist() == [0, 1, 2, 3, 13, 0, 1, 2, 7]
    assert looks.seen == [(0, 2, 8), (2, 6, 4), (6, 14, 2)]


def test_a_search_that_is_answered_ends(monkeypatch):
    Constants(2).set(monkeypatch)
    looks = Looks(monkeypatch)
    y = 10.0 * np.arange(50)[:, None]
    assert first_within(y[:2], y, np.array([50, 50]), 1.0).tolist() == [0, 1]
    assert looks.seen == [(0, 2, 2)]


def test_known_neighbours_are_not_halved(monkeypatch):
    # One neighbour of two that were asked for: it is the only one, and nothing is left to find.
    Constants(64).set(monkeypatch)
    looks = Looks(monkeypatch)
    y = 10.0 * np.arange(64)[:, None]
    assert first_within(y[40:45], y, np.full(5, 64), 1.0).tolist() == [40, 41, 42, 43, 44]
    assert looks.seen == [(0, 64, 5)]


def test_a_half_whose_neighbours_are_known_is_not_halved(monkeypatch):
    Constants(8).set(monkeypatch)
    looks = Looks(monkeypatch)
    # Near are the ranks 1 and 5 to 7, and the last ones are the nearest. The left half has one.
    y = np.array([9.0, 1.0, 9.0, 9.0, 9.0, 0.5, 0.4, 0.3])[:, None]
    assert first_within(np.zeros((1, 1)), y, np.array([8]), 2.0).tolist() == [1]
    assert looks.seen == [(0, 8, 1), (0, 4, 1)]


@pytest.mark.parametrize("numbers", [1, 80, 1000])
def test_distances_are_taken_in_parts(monkeypatch, numbers):
    # All queries are few, so all pairs are compared; four numbers each, or one pair at once.
    Constants(16, FEW_QUERIES=100, NUMBERS_AT_ONCE=numbers).set(monkeypatch)
    pairs = []

    def cdist(a, b):
        pairs.append((len(a), len(b)))
        return distance.cdist(a, b)

    monkeypatch.setattr(tree_search, "cdist", cdist)
    x, y = cloud(np.random.default_rng(0), 3)
    above = np.full(len(x), len(y))
    expected = first_rank(distances(x, y) < 0.3, above)
    assert first_within(x, y, above, 0.3).tolist() == expected.tolist()
    assert len(pairs) > len(y) / 16
    assert all(rows == 1 or 4 * rows * columns <= numbers for rows, columns in pairs)


@pytest.mark.parametrize("states", [0, 1, 5])
@pytest.mark.parametrize("queries", [0, 1, 40])
def test_few(queries, states):
    x, y = np.zeros((queries, 3)), np.ones((states, 3))
    above = np.full(queries, states)
    assert first_within(x, y, above, 1.7).tolist() == [states] * queries
    # √3 = 1.73
    assert first_within(x, y, above, 1.8).tolist() == [0] * queries


class Lists:
    """Records the queries that list their likely balls, and those that list their near ones."""

    def __init__(self, monkeypatch) -> None:
        self.rows: list[list[int]] = []
        listing = tree_search._list

        def record(balls, rows, *others):
            self.rows.append(rows.tolist())
            listing(balls, rows, *others)

        monkeypatch.setattr(tree_search, "_list", record)


@pytest.mark.parametrize("constants", SMALL)
@pytest.mark.parametrize("dimension", [1, 3, 11])
def test_the_first_passing(monkeypatch, constants, dimension):
    constants.set(monkeypatch)
    lists = Lists(monkeypatch)
    for seed in range(8):
        rng = np.random.default_rng([seed, dimension])
        x, y, test = density_case(rng, dimension)
        test.threshold[:2] = -np.inf, np.inf  # everything passes, and nothing
        above = floors(rng, len(x), len(y))
        radius = float(np.quantile(distances(x, y), [0.02, 0.1, 0.5, 1][seed % 4])) + 1e-5
        densities = log_normal(y[None, :, None], test.mean[:, None], test.deviation[:, None])
        passes = densities.min(-1) > test.threshold[:, None]
        expected = first_rank((distances(x, y) < radius) & passes, above)
        found = first_passing(x, y, above, radius, test)
        np.testing.assert_array_equal(found, expected, f"{seed=}")
    likely, near = (sum(map(len, lists.rows[i::2])) for i in (0, 1))
    assert min(likely, near) > 10


def test_the_smaller_balls_are_listed(monkeypatch):
    monkeypatch.setattr(tree_search, "PRODUCT", 1e9)
    lists = Lists(monkeypatch)
    rng = np.random.default_rng(0)
    y = rng.uniform(-1, 1, size=(500, 2))
    x = rng.uniform(-1, 1, size=(100, 2))
    # A threshold one below the greatest density passes what is within √2 deviations, here 0.014
    # and 141; half of the queries are sure like that, half not, one does not care and one is never
    # content.
    deviation = np.where(np.arange(100) % 2, 100, 0.01)[:, None, None] * np.ones((1, 1, 2))
    threshold = log_normal(0 * deviation, 0, deviation)[:, 0] - 1
    threshold[[7, 8]] = -np.inf, np.inf
    test = tree_search.GaussianTest(x[:, None], deviation, threshold)
    above = np.full(100, 500)
    above[10] = 0
    found = first_passing(x, y, above, 0.3, test)
    sure = [q for q in range(0, 100, 2) if q not in (8, 10)]
    assert lists.rows == [sure, list(range(1, 100, 2))]
    # A ball about the mean, which is the query.
    limits = np.where(np.arange(100) % 2, 0.3, np.sqrt(2) * 0.01)
    limits[8] = 0
    assert found.tolist() == first_rank(distances(x, y) < limits[:, None], above).tolist()
    assert (found[sure] < 500).any()


def test_likely_balls_miss_nothing_in_single_precision():
    # State j is the first that passes the test of query j, by a hair: nearer ones come later. In
    # units of the deviation they lie at 1400, where single precision has steps of 1.2e-4.
    y = (100 - np.arange(100, 0, -1)[:, None] / 128).astype(np.float32)
    mean = np.full((100, 1, 1), 100, np.float32)
    deviation = np.full((100, 1, 1), 0.07, np.float32)
    threshold = log_normal(y, mean[0], deviation[0]) - 1e-6
    test = tree_search.GaussianTest(mean, deviation, threshold)
    found = first_passing(mean[:, 0], y, np.full(100, 100), 9.0, test)
    assert found.tolist() == list(range(100))


def test_the_limit_of_the_smaller_balls(monkeypatch):
    monkeypatch.setattr(tree_search, "PRODUCT", 1e9)
    # 101 points, the whole numbers: a radius of r + ½ about 0 holds 2r + 1 of them.
    points = np.arange(-50.0, 51.0)[:, None]

    def limit(likely, near):
        balls = (
            tree_search._Balls(points, np.zeros((len(radii), 1)), np.array(radii) + 0.5)
            for radii in (likely, near)
        )
        return tree_search._limit(*balls)[0]

    # By size 1, 3, 5 and 21 points against 7: three likely balls are the smaller ones.
    assert limit([10, 0, 2, 1], [3, 3, 3, 3]) == 2.5
    assert limit([10, 11, 12], [3, 3, 3]) == -np.inf
    assert limit([1, 0, 2], [3, 3, 3]) == 2.5
    # The sample is of likely and near balls of the same queries: 3 + 41 against 101 + 41.
    assert limit([1, 50], [50, 20]) == 1.5


def test_the_limit_goes_by_a_sample(monkeypatch):
    monkeypatch.setattr(tree_search, "SAMPLE", 2)
    monkeypatch.setattr(tree_search, "PRODUCT", 1e9)
    points = np.arange(-50.0, 51.0)[:, None]
    # Only the first and the last one are looked at.
    radii = np.array([1.5, 40.5, 2.9, 2.0])
    likely = tree_search._Balls(points, np.zeros((4, 1)), radii)
    near = tree_search._Balls(points, np.zeros((4, 1)), np.full(4, 3.5))
    assert tree_search._limit(likely, near) == (2.0, False)


def test_all_states_are_compared_where_balls_hold_too_many(monkeypatch):
    points = np.arange(-50.0, 51.0)[:, None]
    likely, near = (
        tree_search._Balls(points, np.zeros((4, 1)), np.array(radii) + 0.5)
        for radii in ([1, 30, 2, 30], [30, 30, 30, 30])
    )
    # Near balls hold 61 of the 101 states, likely ones 3, 5, 61 and 61; to compare a query with all
    # states takes as long as to list 10.1, 70.7 or 4.04 of them.
    for product, expected in ((0.1, (2.5, True)), (0.7, (2.5, False)), (0.04, (1.5, True))):
        monkeypatch.setattr(tree_search, "PRODUCT", product)
        assert tree_search._limit(likely, near) == expected
    # Of five of the states, each stands for 20.2: a near ball holds three, small likely ones one.
    monkeypatch.setattr(tree_search, "SAMPLE_POINTS", 5)
    for product, expected in ((0.19, (-np.inf, True)), (0.21, (2.5, True)), (0.7, (2.5, False))):
        monkeypatch.setattr(tree_search, "PRODUCT", product)
        assert tree_search._limit(likely, near) == expected


@pytest.fixture
def parts(monkeypatch) -> list[tuple[int, int, int]]:
    """(states, queries, pairs) of each list; up to 32 pairs in two dimensions are asked for."""
    Constants(4, NUMBERS_AT_ONCE=64).set(monkeypatch)
    seen = []
    pairs = tree_search._pairs

    def record(tree, balls, rows):
        query, rank = pairs(tree, balls, rows)
        seen.append((tree.n, len(rows), len(rank)))
        return query, rank

    monkeypatch.setattr(tree_search, "_pairs", record)
    return seen


def slender_test(mean):
    """40 tests that pass what is within √2 deviations; these are 1 and 10, or 10 and 1."""
    deviation = np.resize([[[1.0, 10.0]], [[10.0, 1.0]]], (40, 1, 2))
    threshold = -np.log(2 * np.pi * 10) - 1
    return tree_search.GaussianTest(mean[:, None], deviation, np.full(40, threshold))


def test_pairs_are_listed_in_parts(parts):
    # All 20 states are in reach of all 40 queries, and 1.5 deviations off all means but the last.
    mean = np.resize([[1.5, 0.0], [0.0, 1.5]], (40, 2))
    mean[-1] = 0
    above = np.full(40, 20)
    above[3] = 4
    found = first_passing(np.zeros((40, 2)), np.zeros((20, 2)), above, 9.0, slender_test(mean))
    assert found.tolist() == [20, 20, 20, 4] + 35 * [20] + [0]
    # 4 states for all, and 16 for those that are unanswered and may look further.
    assert sum(pairs for _, _, pairs in parts) == 40 * 4 + 38 * 16
    assert max(pairs for _, _, pairs in parts) == 32


def test_parts_grow_where_little_is_listed(parts):
    # Nothing is in reach. The first part must fit if all were; the next ones are fourfold.
    found = first_passing(
        np.zeros((40, 2)),
        np.full((20, 2), 1000.0),
        np.full(40, 20),
        9.0,
        slender_test(np.zeros((40, 2))),
    )
    assert found.tolist() == 40 * [20]
    assert parts == [(4, 8, 0), (4, 32, 0), (16, 2, 0), (16, 8, 0), (16, 30, 0)]
