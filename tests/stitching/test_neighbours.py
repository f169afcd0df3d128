"""Tests of the search: both backends against a double loop in double precision."""

import numpy as np
import pytest

from tskd_jax.stitching import neighbours
from tskd_jax.stitching.neighbours import GaussianTest, best_neighbour

BACKENDS = ("cpu", "accelerator")
pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def log_normal(x, mean, deviation) -> float:
    """log N(x; mean, diag(deviation²)) in double precision."""
    total = 0.0
    for a, b, c in zip(x, mean, deviation, strict=True):
        total -= 0.5 * ((float(a) - float(b)) / float(c)) ** 2
        total -= np.log(float(c)) + 0.5 * np.log(2 * np.pi)
    return total


def double_loop(queries, states, values, radius, floor=None, test=None):
    """What `best_neighbour` promises, read aloud."""
    index, value = [], []
    for q, query in enumerate(np.asarray(queries, np.float64)):
        best, best_value = -1, -np.inf
        for j, state in enumerate(np.asarray(states, np.float64)):
            if np.sqrt(((query - state) ** 2).sum()) > radius:
                continue
            if floor is not None and not values[j] > floor[q]:
                continue
            if test is not None and not (
                min(
                    log_normal(state, test.mean[q, i], test.deviation[q, i])
                    for i in range(test.mean.shape[1])
                )
                > test.threshold[q]
            ):
                continue
            if best < 0 or values[j] > best_value:
                best, best_value = j, values[j]
        index.append(best)
        value.append(best_value)
    return np.array(index, np.int64), np.array(value)


def random_case(seed, queries, states, dimension, neighbours=6):
    """Random points, and a radius with some neighbours for most queries and none on its rim."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(states, dimension)).astype(np.float32)
    # Near some state, as next states are.
    x = (
        y[rng.integers(states, size=queries)] + 0.3 * rng.normal(size=(queries, dimension))
    ).astype(np.float32)
    distances = np.sort(
        np.sqrt(((x[:200, None].astype(np.float64) - y[None]) ** 2).sum(-1)), axis=None
    )
    near = neighbours * min(queries, 200)
    # Between two distances that are clearly apart: no pair is decided by rounding.
    gap = np.argmax(np.diff(distances[near : near + 200])) + near
    radius = float((distances[gap] + distances[gap + 1]) / 2)
    return x, y, rng.normal(size=states).astype(np.float32), radius, rng


def check(actual, expected):
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_array_equal(actual[1], expected[1])
    assert actual[0].dtype == np.int64


@pytest.mark.parametrize("dimension", [1, 3, 11, 60])
def test_random_points(backend, dimension):
    x, y, values, radius, rng = random_case(dimension, 40, 150, dimension)
    expected = double_loop(x, y, values, radius)
    check(best_neighbour(x, y, values, radius, backend=backend), expected)
    floor = rng.normal(size=40)
    expected_above = double_loop(x, y, values, radius, floor)
    assert (expected_above[0] == -1).any()
    assert (expected_above[0] >= 0).any()
    check(best_neighbour(x, y, values, radius, floor, backend), expected_above)


def test_more_states_than_a_tile_and_a_band(backend):
    count = neighbours.STATE_TILE + 1500
    queries = neighbours.QUERY_TILE + 50
    x, y, values, radius, rng = random_case(7, queries, count, 3)
    floor = np.where(rng.random(queries) < 0.3, rng.normal(size=queries), -np.inf)
    expected = double_loop_by_rows(x, y, values, radius, floor)
    rank = np.argsort(np.argsort(-values))[expected[0][expected[0] >= 0]]
    # Answers lie in the first band and behind the first tile, and some queries have none.
    assert rank.min() < neighbours.FIRST_BAND
    assert rank.max() > neighbours.STATE_TILE
    assert (expected[0] == -1).any()
    check(best_neighbour(x, y, values, radius, floor, backend), expected)


def double_loop_by_rows(queries, states, values, radius, floor):
    """The double loop with its inner one in NumPy, for the larger case."""
    index = []
    states = states.astype(np.float64)
    for query, least in zip(queries.astype(np.float64), floor, strict=True):
        fits = (np.sqrt(((query - states) ** 2).sum(1)) <= radius) & (values > least)
        index.append(np.argmax(np.where(fits, values, -np.inf)) if fits.any() else -1)
    index = np.array(index)
    return index, np.where(index >= 0, values[index], -np.inf)


def test_the_search_splits_many_pairs(backend, monkeypatch):
    # The least part is 10,000 pairs: 900 queries with some 40 neighbours each are several.
    monkeypatch.setattr(neighbours, "NUMBERS_AT_ONCE", 1)
    x, y, values, radius, _ = random_case(8, 900, 400, 3, neighbours=40)
    check(best_neighbour(x, y, values, radius, backend=backend), double_loop(x, y, values, radius))


def test_ties_in_value_go_to_the_lowest_index(backend):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=(120, 2)).astype(np.float32)  # many duplicates
    values = rng.integers(0, 3, size=120).astype(np.float32)  # many ties
    x = y[:30]
    expected = double_loop(x, y, values, 1.0)
    check(best_neighbour(x, y, values, 1.0, backend=backend), expected)
    assert len(np.unique(expected[0])) < 30


def test_the_radius_is_inclusive(backend):
    # Distances 5 (3-4-5) and 5 + 2⁻²⁰·5, which single precision tells apart.
    y = np.array([[3, 4], [3 * (1 + 2.0**-20), 4 * (1 + 2.0**-20)]])
    index, _ = best_neighbour(np.zeros((1, 2)), y, np.array([1.0, 2.0]), 5.0, backend=backend)
    assert index.tolist() == [0]


def test_radius_zero_finds_exact_duplicates(backend):
    x = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], np.float32)
    y = np.concatenate([x[:2], x[:1], np.nextafter(x[2:], np.float32(1))])
    check(
        best_neighbour(x, y, np.arange(4.0), 0.0, backend=backend),
        (np.array([2, 1, -1]), np.array([2, 1, -np.inf])),
    )


def test_empty_neighbourhoods(backend):
    x, y = np.zeros((3, 2)), np.full((5, 2), 9.0)
    check(
        best_neighbour(x, y, np.zeros(5), 1.0, backend=backend),
        (np.full(3, -1), np.full(3, -np.inf)),
    )


@pytest.mark.parametrize("queries", [0, 1, 2])
def test_one_state(backend, queries):
    index, value = best_neighbour(
        np.zeros((queries, 3)), np.zeros((1, 3)), np.array([7.0]), 0.5, backend=backend
    )
    assert index.tolist() == queries * [0]
    assert value.tolist() == queries * [7]


@pytest.mark.parametrize("states", [0, 1, 20])
def test_no_query(backend, states):
    index, value = best_neighbour(
        np.zeros((0, 3)), np.zeros((states, 3)), np.zeros(states), 0.5, backend=backend
    )
    assert index.shape == value.shape == (0,)


def test_no_state(backend):
    index, value = best_neighbour(
        np.zeros((2, 3)), np.zeros((0, 3)), np.zeros(0), 0.5, backend=backend
    )
    assert index.tolist() == [-1, -1]
    assert value.tolist() == [-np.inf, -np.inf]


@pytest.mark.parametrize("radius", [1e6, np.inf])
def test_a_radius_that_covers_all_finds_the_best_of_all(backend, radius):
    rng = np.random.default_rng(0)
    values = rng.normal(size=300)
    index, value = best_neighbour(
        rng.normal(size=(40, 3)), rng.normal(size=(300, 3)), values, radius, backend=backend
    )
    assert (index == values.argmax()).all()
    assert (value == values.max()).all()


def test_infinite_values(backend):
    x, y, values, radius, rng = random_case(3, 40, 150, 3)
    values[rng.permutation(150)[:50]] = np.inf
    values[rng.permutation(150)[:50]] = -np.inf
    floor = np.resize([-np.inf, 0.0, 1.0], 40)
    check(best_neighbour(x, y, values, radius, backend=backend), double_loop(x, y, values, radius))
    check(
        best_neighbour(x, y, values, radius, floor, backend),
        double_loop(x, y, values, radius, floor),
    )


def test_infinite_floors(backend):
    y, values = np.zeros((3, 1)), np.array([1.0, 2.0, -np.inf])
    floor = np.array([np.inf, -np.inf, 1.0, 2.0])
    index, _ = best_neighbour(np.zeros((4, 1)), y, values, 1.0, floor, backend)
    # Nothing is above +∞; everything finite is above -∞; a value equal to the floor is not above.
    assert index.tolist() == [-1, 1, 1, -1]
    # A value of -∞ is not above a floor of -∞, but where there is no floor it is a value.
    worst = (np.zeros((1, 1)), y[2:], values[2:], 1.0)
    assert best_neighbour(*worst, np.array([-np.inf]), backend)[0].tolist() == [-1]
    assert best_neighbour(*worst, None, backend)[0].tolist() == [0]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("queries", np.full((2, 3), np.nan)),
        ("queries", np.full((2, 3), np.inf)),
        ("queries", np.zeros((2, 4))),
        ("queries", np.zeros(3)),
        ("states", np.full((5, 3), np.nan)),
        ("states", np.full((5, 3), -np.inf)),
        ("values", np.full(5, np.nan)),
        ("values", np.zeros(4)),
        ("values", np.zeros((5, 1))),
        ("radius", -0.1),
        ("radius", np.nan),
        ("floor", np.full(2, np.nan)),
        ("floor", np.zeros(3)),
        ("backend", "abacus"),
    ],
)
def test_refused(backend, argument, value):
    arguments = {
        "queries": np.zeros((2, 3)),
        "states": np.zeros((5, 3)),
        "values": np.zeros(5),
        "radius": 1.0,
        "floor": np.zeros(2),
        "backend": backend,
    }
    best_neighbour(**arguments)
    with pytest.raises(ValueError, match=r"\w"):
        best_neighbour(**arguments | {argument: value})


def test_far_from_the_origin(backend):
    # At 1000, |x|² is 10⁶ a dimension and single precision resolves it to 0.06, while ρ² = 0.01:
    # |x|² - 2xy + |y|² is noise there, and differences are not.
    rng = np.random.default_rng(0)
    offsets = rng.uniform(-0.15, 0.15, size=(400, 3))
    y = (1000 + offsets).astype(np.float32)
    x = (1000 + rng.uniform(-0.15, 0.15, size=(60, 3))).astype(np.float32)
    radius = 0.1
    exact = np.sqrt(((x[:, None].astype(np.float64) - y[None].astype(np.float64)) ** 2).sum(-1))
    # States on the rim, within rounding, are nobody's business here.
    y = y[(np.abs(exact - radius) > 1e-6).all(0)]
    values = rng.normal(size=len(y)).astype(np.float32)

    naive = (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)[None]
    exact = ((x[:, None].astype(np.float64) - y[None].astype(np.float64)) ** 2).sum(-1)
    assert ((naive <= radius**2) != (exact <= radius**2)).mean() > 0.05

    expected = double_loop(x, y, values, radius)
    assert (expected[0] >= 0).any()
    check(best_neighbour(x, y, values, radius, backend=backend), expected)


def density_case(seed, queries, states, dimension, members=3):
    """A density test that about half of the pairs pass, none of them by a hair."""
    x, y, values, radius, rng = random_case(seed, queries, states, dimension, neighbours=20)
    mean = (x[:, None] + 0.3 * rng.normal(size=(queries, members, dimension))).astype(np.float32)
    deviation = rng.uniform(0.2, 1.0, size=mean.shape).astype(np.float32)
    threshold = np.zeros(queries)
    for q in range(queries):
        near = np.argsort(((x[q].astype(np.float64) - y) ** 2).sum(1))[:40]
        densities = np.sort(
            [
                min(log_normal(y[j], mean[q, i], deviation[q, i]) for i in range(members))
                for j in near
            ]
        )
        middle = len(densities) // 2
        gap = np.argmax(np.diff(densities[middle - 5 : middle + 5])) + middle - 5
        threshold[q] = (densities[gap] + densities[gap + 1]) / 2
    return x, y, values, radius, GaussianTest(mean, deviation, threshold)


@pytest.mark.parametrize("dimension", [1, 3, 11])
def test_density(backend, dimension):
    x, y, values, radius, test = density_case(dimension, 30, 120, dimension)
    expected = double_loop(x, y, values, radius, test=test)
    # The test decides something: without it the answers are others.
    assert (expected[0] != double_loop(x, y, values, radius)[0]).any()
    check(best_neighbour(x, y, values, radius, backend=backend, test=test), expected)
    floor = np.random.default_rng(1).normal(size=len(x)) - 0.5
    check(
        best_neighbour(x, y, values, radius, floor, backend, test),
        double_loop(x, y, values, radius, floor, test),
    )


def test_density_is_that_of_the_worst_member(backend):
    # Member 0 is sure of the first state, member 1 of the second; both tolerate the third alone.
    y = np.array([[0.0], [2.0], [1.0]])
    mean = np.array([[[0.0], [2.0]]], np.float32)
    deviation = np.ones((1, 2, 1), np.float32)
    # log N(1; 0, 1) = -0.5 - 0.919 = -1.419, log N(2; 0, 1) = -2 - 0.919 = -2.919.
    test = GaussianTest(mean, deviation, np.array([-2.0]))
    index, _ = best_neighbour(
        np.array([[1.0]]), y, np.array([9.0, 8.0, 1.0]), 5.0, backend=backend, test=test
    )
    assert index.tolist() == [2]


@pytest.mark.parametrize(("threshold", "expected"), [(-np.inf, 1), (np.inf, -1)])
def test_density_with_an_infinite_threshold(backend, threshold, expected):
    test = GaussianTest(
        np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32), np.array([threshold])
    )
    y, values = np.array([[0.0], [0.5]]), np.array([1.0, 2.0])
    index, _ = best_neighbour(np.zeros((1, 1)), y, values, 1.0, backend=backend, test=test)
    assert index.tolist() == [expected]


def test_density_with_no_query(backend):
    test = GaussianTest(
        np.zeros((0, 3, 2), np.float32), np.ones((0, 3, 2), np.float32), np.zeros(0)
    )
    index, _ = best_neighbour(
        np.zeros((0, 2)), np.zeros((9, 2)), np.zeros(9), 1.0, backend=backend, test=test
    )
    assert index.shape == (0,)


def test_backends_agree_where_auto_chooses(backend):
    x, y, values, radius, _ = random_case(11, 20, 90, 3)
    check(
        best_neighbour(x, y, values, radius, backend="auto"),
        best_neighbour(x, y, values, radius, backend=backend),
    )
