"""Tests of the search: both backends against a double loop in double precision.

Over 300 lines: both backends go through the same cases.
"""

import logging

import jax
import numpy as np
import pytest

from tskd_jax.machine import memory
from tskd_jax.stitching import neighbours, tile_search, tree_search
from tskd_jax.stitching.density_test import GaussianTest
from tskd_jax.stitching.neighbours import best_neighbour, fastest_backends

# m of the tasks and between; each compiles a kernel of its own.
DIMENSIONS = (1, 2, 3, 6, 11, 17, 29, 45, 60)
# One shape for all random cases, so that each dimension compiles once. So many queries and states
# go through trees, fewer are compared one by one (`FEW_QUERIES`, `LEAF`).
QUERIES, STATES = 40, 150


@pytest.fixture(params=["cpu", "accelerator"])
def backend(request) -> str:
    return request.param


def distances(queries, states):
    return np.sqrt(np.square(queries.astype(np.float64)[:, None] - states).sum(-1))


def log_normal(x, mean, deviation):
    """log N(x; mean, diag(deviation²)) over the last axis, in double precision."""
    x, mean, deviation = (np.asarray(column, np.float64) for column in (x, mean, deviation))
    density = -0.5 * np.square((x - mean) / deviation) - np.log(deviation) - 0.5 * np.log(2 * np.pi)
    return density.sum(-1)


def double_loop(queries, states, values, radius, floor=None, test=None, tested=None):
    """What `best_neighbour` promises, read aloud; the inner loop is a row of NumPy."""
    tested = (states if tested is None else tested).astype(np.float64)
    index, value = np.full(len(queries), -1), np.full(len(queries), -np.inf)
    states = states.astype(np.float64)
    for q in range(len(queries)):
        fits = distances(queries[q : q + 1], states)[0] <= radius
        if floor is not None:
            fits &= values > floor[q]
        if test is not None:
            densities = log_normal(tested[:, None], test.mean[q], test.deviation[q])
            fits &= densities.min(1) > test.threshold[q]
        if fits.any():
            fitting = np.flatnonzero(fits)
            index[q] = fitting[values[fitting].argmax()]  # the first of equals
            value[q] = values[index[q]]
    return index, value


def check(actual, expected, label=""):
    np.testing.assert_array_equal(actual[0], expected[0], label)
    np.testing.assert_array_equal(actual[1], expected[1], label)
    assert actual[0].dtype == np.int64


def cloud(rng, dimension, queries=QUERIES, states=STATES):
    """States in single precision; queries near some of them, as next states are."""
    y = rng.normal(size=(states, dimension))
    x = y[rng.integers(states, size=queries)] + 0.3 * rng.normal(size=(queries, dimension))
    return x.astype(np.float32), y.astype(np.float32)


def lopsided(rng, dimension):
    """As `cloud`; units of the dimensions differ by up to a million."""
    x, y = cloud(rng, dimension)
    scale = (10 ** rng.uniform(-3, 3, dimension)).astype(np.float32)
    return x * scale, y * scale


def grid(rng, dimension):
    """Whole numbers: duplicates, and many pairs at exactly the same distance."""
    points = rng.integers(-2, 3, size=(QUERIES + STATES, dimension)).astype(np.float32)
    return points[:QUERIES], points[QUERIES:]


def clusters(rng, dimension):
    """Twenty places for all: at radius 0 there is something to find."""
    points = rng.normal(size=(20, dimension))[rng.integers(20, size=QUERIES + STATES)]
    return points[:QUERIES], np.asfortranarray(points[QUERIES:])


def far(rng, dimension):
    """Doubles at 10⁴ that are tenths apart, where single precision has steps of 0.001."""
    x, y = cloud(rng, dimension)
    return 1e4 + 0.1 * x.astype(np.float64), 1e4 + 0.1 * y.astype(np.float64)


def radii(pair):
    """0, on the distance of a pair, by 10⁻⁹ of it inside and outside, all, infinity."""
    return [0.0, pair, pair * (1 - 1e-9), pair * (1 + 1e-9), 1e9, np.inf]


VALUES = {
    "distinct": lambda rng: rng.normal(size=STATES).astype(np.float32),
    "ties": lambda rng: rng.integers(0, 3, size=STATES),
    "equal": lambda rng: np.zeros(STATES),
    "infinite": lambda rng: rng.choice([-np.inf, -1.0, 0.0, 2.0, np.inf], STATES),
    # Single precision would make ties of them.
    "close": lambda rng: 1 + 1e-12 * rng.permutation(STATES),
}
FLOORS = {
    "none": lambda rng, values: None,
    # A value equal to the floor is not above it.
    "of values": lambda rng, values: rng.choice(values, QUERIES),
    "infinite": lambda rng, values: rng.choice([-np.inf, np.inf, values[0]], QUERIES),
}


@pytest.mark.parametrize("points", [cloud, lopsided, grid, clusters, far])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_the_answer_is_that_of_the_double_loop(backend, dimension, points):
    answered = []
    # Radius, values and floor meet in 90 combinations: 18 here, all of them in five dimensions.
    for seed in range(DIMENSIONS.index(dimension) % 5, 90, 5):
        rng = np.random.default_rng([seed, dimension])
        x, y = points(rng, dimension)
        kinds = list(VALUES)[seed // 6 % 5], list(FLOORS)[seed // 30]
        values = VALUES[kinds[0]](rng)
        floor = FLOORS[kinds[1]](rng, values)
        # About 5 neighbours for each query.
        pair = float(np.sort(distances(x, y), axis=None)[5 * QUERIES])
        radius = radii(pair)[seed % 6]
        for array in (x, y, values):
            array.flags.writeable = False  # nothing is changed in place
        expected = double_loop(x, y, values, radius, floor)
        actual = best_neighbour(x, y, values, radius, floor, backend)
        check(actual, expected, f"{seed=} {radius=} {kinds=}")
        answered.append(expected[0] >= 0)
    assert 0.2 < np.mean(answered) < 0.95


@pytest.mark.parametrize("origin", [0.0, 1e4])
@pytest.mark.parametrize(
    ("dimension", "square"), [(1, 1), (2, 2), (2, 25), (2, 50), (3, 3), (3, 14), (6, 6)]
)
def test_pairs_on_the_radius_and_a_hair_beside_it(backend, dimension, square, origin):
    side = np.arange(-7, 8) if dimension < 6 else np.arange(-1, 2)
    lattice = np.stack(np.meshgrid(*dimension * [side]), -1).reshape(-1, dimension)
    rim = lattice[np.square(lattice).sum(1) == square].astype(np.float64)
    rim, radius = np.resize(rim, (64, dimension)), float(np.sqrt(square))
    values = np.arange(64.0)
    x = np.full((QUERIES, dimension), origin)

    def search(*scales):
        """The rims scaled, of rising value."""
        y = origin + np.concatenate([scale * rim for scale in scales])
        rise = np.concatenate([values + 100 * i for i in range(len(scales))])
        return set(best_neighbour(x, y, rise, radius, backend=backend)[0].tolist())

    hair = 1e-9
    assert search(1.0) == {63}
    assert search(1 - hair) == {63}
    assert search(1 + hair) == {-1}
    # Better ones just outside are found first, and must be passed over.
    assert search(1 - hair, 1.0, 1 + hair, 1 + 2 * hair) == {64 + 63}
    assert search(1 - hair, 1 + hair) == {63}


def test_only_what_was_found_a_hair_outside_is_searched_again(monkeypatch):
    searched = []
    first_within = tree_search.first_within

    def record(queries, *others):
        searched.append(len(queries))
        return first_within(queries, *others)

    monkeypatch.setattr(tree_search, "first_within", record)
    x = np.array([[0.0], [10.0], [20.0]])
    y = np.array([[1.0], [11 + 1e-9], [9.5], [25.0]])
    index, _ = best_neighbour(x, y, np.array([1.0, 3, 2, 4]), 1.0, backend="accelerator")
    assert index.tolist() == [0, 2, -1]
    assert searched == [1]


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_doubles_far_from_the_origin(backend, dimension):
    # At 10⁴ single precision has steps of 0.001: cast to it, the answers are others.
    rng = np.random.default_rng(0)
    x = 1e4 + rng.uniform(-0.15, 0.15, size=(1000, dimension))
    y = 1e4 + rng.uniform(-0.15, 0.15, size=(1000, dimension))
    values = rng.normal(size=1000)
    expected = double_loop(x, y, values, 0.1)
    cast = double_loop(x.astype(np.float32), y.astype(np.float32), values, 0.1)
    assert (cast[0] != expected[0]).any()
    check(best_neighbour(x, y, values, 0.1, backend=backend), expected)


@pytest.mark.parametrize(("origin", "dimension"), [(1e3, 3), (1e4, 3), (1e4, 11)])
def test_far_from_the_origin(backend, origin, dimension):
    # At 1000, |x|² is 10⁶ a dimension and single precision resolves it to 0.06, while ρ² = 0.01:
    # |x|² - 2xy + |y|² is noise there, and differences are not.
    rng = np.random.default_rng(0)
    reach = 0.26 / np.sqrt(dimension)
    y = (origin + rng.uniform(-reach, reach, size=(400, dimension))).astype(np.float32)
    x = (origin + rng.uniform(-reach, reach, size=(60, dimension))).astype(np.float32)
    values, radius = rng.normal(size=400).astype(np.float32), 0.1

    naive = (x**2).sum(1)[:, None] - 2 * x @ y.T + (y**2).sum(1)[None]
    near = distances(x, y) <= radius
    assert 0.001 < near.mean() < 0.5
    assert ((naive <= radius**2) != near).mean() > 0.05

    expected = double_loop(x, y, values, radius)
    best = np.where(naive <= radius**2, values, -np.inf).argmax(1)
    assert (best != expected[0]).mean() > 0.5
    assert (expected[0] >= 0).any()
    check(best_neighbour(x, y, values, radius, backend=backend), expected)


def test_more_states_than_a_tile_and_a_range(backend):
    count = tile_search.CPU_TILE.states + 1500
    queries = tile_search.CPU_TILE.queries + 50
    rng = np.random.default_rng(7)
    x, y = cloud(rng, 3, queries, count)
    values, radius = rng.normal(size=count), 0.21
    floor = np.where(rng.random(queries) < 0.3, rng.normal(size=queries), -np.inf)
    expected = double_loop(x, y, values, radius, floor)
    rank = np.argsort(np.argsort(-values))[expected[0][expected[0] >= 0]]
    # Answers lie in the first range and behind the first tile, and some queries have none.
    assert rank.min() < tree_search.FIRST_RANGE
    assert rank.max() > tile_search.CPU_TILE.states
    assert (expected[0] == -1).any()
    check(best_neighbour(x, y, values, radius, floor, backend), expected)


def test_hundreds_of_neighbours(backend):
    rng = np.random.default_rng(8)
    x, y = cloud(rng, 3, 300, 6000)
    values, floor = rng.normal(size=6000), rng.normal(size=300) - 1
    assert np.median((distances(x, y) < 1).sum(1)) > 200
    check(best_neighbour(x, y, values, 1.0, floor, backend), double_loop(x, y, values, 1.0, floor))


def test_of_equal_values_the_lowest_index_wins(backend):
    y = np.array([[9.0], [1.0], [0.0], [-1.0]])
    index, _ = best_neighbour(np.zeros((1, 1)), y, np.array([5.0, 2, 2, 2]), 1.0, backend=backend)
    assert index.tolist() == [1]


@pytest.mark.parametrize("origin", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_radius_zero_finds_exact_duplicates(backend, dtype, origin):
    x = origin + np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    x = x.astype(dtype)
    # The last one is a duplicate but for the last digit.
    y = np.concatenate([x[:2], x[:1], np.nextafter(x[2:], dtype(np.inf))])
    check(
        best_neighbour(x, y, np.arange(4.0), 0.0, backend=backend),
        (np.array([2, 1, -1]), np.array([2, 1, -np.inf])),
    )


def test_a_radius_in_single_precision_is_inclusive_too(backend):
    # (3, 4) is at 5: widened in single precision, the radius would stay 5 and exclude it.
    x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    index, _ = best_neighbour(x, y, np.zeros(1), np.float32(5), backend=backend)
    assert index.tolist() == [0]


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
        ("queries", np.zeros((2, 0))),
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


def test_values_of_unsigned_numbers(backend):
    # Negated to be sorted, 0 must not become the largest of them.
    values = np.array([0, 1, 2], np.uint8)
    index, _ = best_neighbour(np.zeros((1, 1)), np.zeros((3, 1)), values, 1.0, backend=backend)
    assert index.tolist() == [2]


def test_floors_of_unsigned_numbers(backend):
    values, floor = np.array([0.0, 1.0, 2.0]), np.array([0, 1, 2], np.uint8)
    search = np.zeros((3, 1)), np.zeros((3, 1)), values, 1.0, floor, backend
    assert best_neighbour(*search)[0].tolist() == [2, 2, -1]


@pytest.mark.parametrize(("size", "radius", "expected"), [(1e39, 1.0, 0), (1.0, 1e200, 1)])
def test_numbers_beyond_single_precision(size, radius, expected):
    # ∞ - ∞ would be near nothing.
    x, y = np.full((1, 2), size), np.array([[size, size], [0.0, 0.0]])
    values = np.array([1.0, 2.0])
    index, _ = best_neighbour(x, y, values, radius, backend="accelerator")
    assert index.tolist() == [expected]


def density_case(rng, dimension):
    """Tests that one query in two passes with its nearest states alone, the others with most."""
    x, y = cloud(rng, dimension)
    mean = (x[:, None] + 0.1 * rng.normal(size=(QUERIES, 3, dimension))).astype(np.float32)
    deviation = rng.uniform(0.5, 2.0, size=mean.shape).astype(np.float32)
    deviation *= np.float32(10) ** rng.integers(-2, 2, size=(QUERIES, 1, 1))
    densities = log_normal(y[None, :, None], mean[:, None], deviation[:, None]).min(-1)
    densities = -np.sort(-densities, 1)
    # The widest gap among some of the densities, so that none is on the threshold.
    first = np.where(np.arange(QUERIES) % 2, 2, 100)[:, None] + np.arange(8)
    densities = np.take_along_axis(densities, first, 1)
    gap = np.diff(-densities).argmax(1)
    rows = np.arange(QUERIES)
    threshold = (densities[rows, gap] + densities[rows, gap + 1]) / 2
    return x, y, GaussianTest(mean, deviation, threshold)


@pytest.mark.parametrize("dimension", [1, 2, 3, 11, 29])
def test_density_first_is_that_of_the_double_loop(backend, dimension):
    answered, decided = [], 0
    for seed in range(18):
        rng = np.random.default_rng([seed, dimension])
        x, y, test = density_case(rng, dimension)
        test.threshold[:2] = -np.inf, np.inf  # everything passes, and nothing
        kinds = list(VALUES)[seed % 5], list(FLOORS)[seed % 3]
        values = VALUES[kinds[0]](rng)
        floor = FLOORS[kinds[1]](rng, values)
        pair = float(np.sort(distances(x, y), axis=None)[20 * QUERIES])
        radius = radii(pair)[seed % 6]
        expected = double_loop(x, y, values, radius, floor, test)
        actual = best_neighbour(x, y, values, radius, floor, backend, test)
        check(actual, expected, f"{seed=} {radius=} {kinds=}")
        answered.append(expected[0] >= 0)
        decided += (expected[0] != double_loop(x, y, values, radius, floor)[0]).sum()
    assert 0.05 < np.mean(answered) < 0.95
    assert decided > 50  # without the test the answers are others


@pytest.mark.parametrize("dimension", [1, 3, 11])
def test_what_is_tested_may_lie_elsewhere(backend, dimension):
    """As the next states of neighbours: near is the one, likely the other."""
    decided = 0
    for seed in range(12):
        rng = np.random.default_rng([seed, dimension])
        x, y, test = density_case(rng, dimension)
        moved = y + rng.normal(scale=0.3, size=y.shape).astype(np.float32)
        kind = (np.float32, np.float64)[seed % 2]
        moved, values = moved.astype(kind), VALUES[list(VALUES)[seed % 5]](rng)
        floor = FLOORS[list(FLOORS)[seed % 3]](rng, values)
        radius = float(np.sort(distances(x, y), axis=None)[40 * QUERIES])
        expected = double_loop(x, y, values, radius, floor, test, moved)
        check(best_neighbour(x, y, values, radius, floor, backend, test, moved), expected)
        decided += (expected[0] != double_loop(x, y, values, radius, floor, test)[0]).sum()
        # Without a test there is nothing to ask of it.
        plain = best_neighbour(x, y, values, radius, floor, backend, tested=moved)
        check(plain, double_loop(x, y, values, radius, floor))
    assert decided > 50


def test_what_is_tested_is_finite_and_as_many_rows():
    y, values = np.zeros((3, 2)), np.zeros(3)
    for tested in (np.zeros((2, 2)), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match="tested"):
            best_neighbour(y, y, values, 1.0, tested=tested)


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


def test_density_by_a_hair(backend):
    # One deviation off the mean, log N(1; 0, 1) = -½ - ½ log 2π, and the threshold is 10⁻⁹ above
    # or below, which single precision cannot tell. The state at the mean is worth less.
    edge = -0.5 - 0.5 * np.log(2 * np.pi)
    threshold = np.resize([edge - 1e-9, edge + 1e-9, edge + 1], 9)
    test = GaussianTest(np.zeros((9, 1, 1), np.float32), np.ones((9, 1, 1), np.float32), threshold)
    x, y = np.zeros((9, 1), np.float32), np.array([[0.0], [-1.0]], np.float32)
    index, _ = best_neighbour(x, y, np.array([1.0, 2.0]), 5.0, backend=backend, test=test)
    assert index.tolist() == 3 * [1, 0, -1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dimension", [1, 3])
def test_density_by_a_hair_far_from_the_origin(backend, dimension, dtype):
    # At 100 with deviations of 0.1, single precision has steps of 8e-5 deviations, or of 6e-5 at
    # 1000, in units of them; in double precision the density of one state is told from a threshold
    # 10⁻⁷ beside it.
    rng = np.random.default_rng(0)
    y = (100 + 0.1 * rng.uniform(-3, 3, size=(STATES, dimension))).astype(dtype)
    mean = (100 + 0.1 * rng.uniform(-1, 1, size=(400, 2, dimension))).astype(np.float32)
    deviation = (0.1 * rng.uniform(0.7, 1.4, size=mean.shape)).astype(np.float32)
    densities = log_normal(y[None, :, None], mean[:, None], deviation[:, None]).min(-1)
    # One of the ten densest states: the answer is often that one.
    threshold = np.sort(densities, 1)[np.arange(400), rng.integers(-10, 0, size=400)]
    x, values = mean[:, 0], rng.normal(size=STATES)
    answers = []
    for hair in (-1e-7, 1e-7):
        test = GaussianTest(mean, deviation, threshold + hair)
        answers.append(double_loop(x, y, values, 9.0, test=test))
        check(best_neighbour(x, y, values, 9.0, backend=backend, test=test), answers[-1])
    assert (answers[0][0] != answers[1][0]).sum() > 50


@pytest.mark.parametrize(("threshold", "expected"), [(-np.inf, 1), (np.inf, -1)])
@pytest.mark.parametrize("radius", [1.0, np.inf])
def test_density_with_an_infinite_threshold(backend, radius, threshold, expected):
    test = GaussianTest(
        np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32), np.array([threshold])
    )
    y, values = np.array([[0.0], [0.5]]), np.array([1.0, 2.0])
    index, _ = best_neighbour(np.zeros((1, 1)), y, values, radius, backend=backend, test=test)
    assert index.tolist() == [expected]


@pytest.mark.parametrize(("queries", "states"), [(0, 9), (2, 0), (0, 0)])
def test_density_with_no_query_or_no_state(backend, queries, states):
    test = GaussianTest(
        np.zeros((queries, 3, 2), np.float32),
        np.ones((queries, 3, 2), np.float32),
        np.full(queries, -9.0),
    )
    index, value = best_neighbour(
        np.zeros((queries, 2)),
        np.zeros((states, 2)),
        np.zeros(states),
        1.0,
        backend=backend,
        test=test,
    )
    assert index.tolist() == queries * [-1]
    assert value.tolist() == queries * [-np.inf]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "tskd_jax.stitching.neighbours")
    return caplog


@pytest.fixture
def searches(monkeypatch) -> list[tuple[str, int, int]]:
    """(backend, queries, states) of each search, trials too."""
    seen = []
    lowest_rank = neighbours._lowest_rank

    def record(queries, states, above, radius, test, backend, *tested):
        seen.append((backend, len(queries), len(states)))
        assert (above <= len(states)).all()
        return lowest_rank(queries, states, above, radius, test, backend, *tested)

    monkeypatch.setattr(neighbours, "_lowest_rank", record)
    return seen


@pytest.mark.parametrize(
    ("device", "choice"), [("cpu", "cpu"), ("gpu", "accelerator"), ("tpu", "accelerator")]
)
def test_a_small_search_goes_by_device(monkeypatch, log, searches, device, choice):
    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setattr(neighbours, "SMALL", QUERIES * STATES)
    rng = np.random.default_rng(0)
    x, y = cloud(rng, 3)
    search = x, y, rng.normal(size=STATES), 0.5
    assert fastest_backends(*search) == (choice, "cpu" if device == "cpu" else choice)
    check(best_neighbour(*search), double_loop(*search))
    assert searches == [(choice, QUERIES, STATES)]
    assert log.messages == 2 * [f"search: {choice}, as the device is a {device}"]


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("few", "many", "tile", "choice", "expected"),
    [
        # 100 queries, 150 states. The trees are built for every fourth state, 4 t(10), and asked
        # in a time that grows with the root of that: 2 · 100 (t(20) - t(10)) / 10. A tile has 25
        # of the queries, 4 t.
        (0.5, 1.0, 2.5, "accelerator", "cpu 12.0 s, accelerator 10.0 s"),
        (0.5, 1.0, 4.0, "cpu", "cpu 12.0 s, accelerator 16.0 s"),
        # A second trial that was faster, by chance, does not make the queries gain time.
        (2.0, 1.0, 3.0, "cpu", "cpu 8.0 s, accelerator 12.0 s"),
    ],
)
def test_a_large_search_goes_by_trial(
    monkeypatch, log, searches, device, few, many, tile, choice, expected
):
    def seconds(queries, states, above, radius, test, backend, count):
        return {("cpu", 10): few, ("cpu", 20): many, ("accelerator", 25): tile}[backend, count]

    monkeypatch.setattr(jax, "default_backend", lambda: device)
    monkeypatch.setattr(neighbours, "SMALL", 100 * STATES - 1)
    monkeypatch.setattr(neighbours, "TRIAL_QUERIES", (10, 20))
    monkeypatch.setattr(neighbours, "TRIAL_STATES", 40)
    monkeypatch.setattr(tile_search, "tile_of_device", lambda: tile_search.Tile(25, 64))
    monkeypatch.setattr(neighbours, "_seconds", seconds)
    rng = np.random.default_rng(0)
    x, y = cloud(rng, 3, queries=100)
    search = x, y, rng.normal(size=STATES), 0.5, rng.normal(size=100)
    assert fastest_backends(*search) == (choice, "cpu" if device == "cpu" else choice)
    check(best_neighbour(*search), double_loop(*search))
    assert searches == [(choice, 100, STATES)]
    assert log.messages == 2 * [f"search: {choice}; expected of 100 queries: {expected}"]


@pytest.mark.parametrize("with_test", [False, True])
def test_a_trial_is_a_search_for_some_of_the_queries(monkeypatch, log, searches, with_test):
    monkeypatch.setattr(neighbours, "SMALL", 0)
    # More queries than there are, too.
    monkeypatch.setattr(neighbours, "TRIAL_QUERIES", (3, 50))
    monkeypatch.setattr(neighbours, "TRIAL_STATES", 40)
    monkeypatch.setattr(tile_search, "tile_of_device", lambda: tile_search.Tile(16, 64))
    rng = np.random.default_rng(0)
    x, y, test = density_case(rng, 3)
    values, floor = rng.normal(size=STATES), rng.normal(size=QUERIES)
    search = x, y, values, 1.0, floor, "auto", test if with_test else None
    check(best_neighbour(*search), double_loop(*search[:5], search[-1]))
    *trials, last = searches
    # Every fourth of the states for the trees; one tile, compiled first.
    trees, tiles = [("cpu", 3, 38), ("cpu", 50, 38)], ("accelerator", 16, STATES)
    assert trials == [*trees, tiles, tiles]
    assert last[1:] == (QUERIES, STATES)
    assert log.messages[0].startswith(f"search: {last[0]}; expected of {QUERIES} queries: cpu ")
    assert len(log.messages) == 1


def test_a_backend_that_is_named_needs_no_trial(monkeypatch, log, searches, backend):
    monkeypatch.setattr(neighbours, "SMALL", 0)
    # Nor does it go by device.
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu" if backend != "cpu" else "gpu")
    rng = np.random.default_rng(0)
    x, y = cloud(rng, 3)
    search = x, y, rng.normal(size=STATES), 0.5
    check(best_neighbour(*search, backend=backend), double_loop(*search))
    assert searches == [(backend, QUERIES, STATES)]
    assert log.messages == []


def test_no_backend_is_the_fastest_for_what_is_refused():
    with pytest.raises(ValueError, match="negative"):
        fastest_backends(np.zeros((2, 3)), np.zeros((5, 3)), np.zeros(5), -1.0)


def test_fewer_queries_at_a_time_where_memory_runs_out(backend, monkeypatch):
    rng = np.random.default_rng(5)
    queries, states = cloud(rng, 3)
    values = rng.uniform(size=len(states))
    mean = queries[:, None] + rng.normal(0, 0.1, (len(queries), 2, 3))
    test = GaussianTest(mean, np.full(mean.shape, 0.5), np.full(len(queries), -4.0))
    floor = rng.uniform(0, 0.5, len(queries))
    expected = double_loop(queries, states, values, 0.8, floor, test)
    asked, search = [], neighbours._lowest_rank

    def short(queries, *more):
        asked.append(len(queries))
        if len(queries) > 12:
            raise MemoryError
        return search(queries, *more)

    monkeypatch.setattr(neighbours, "_lowest_rank", short)
    check(best_neighbour(queries, states, values, 0.8, floor, backend, test), expected)
    assert asked == [40, 20, 10, 10, 10, 10]
    assert 0 < (expected[0] >= 0).sum() < len(queries)


def test_a_kernel_that_does_not_fit_is_not_started(monkeypatch):
    rng = np.random.default_rng(6)
    queries, states = cloud(rng, 3)
    values = rng.uniform(size=len(states))
    whole = best_neighbour(queries, states, values, 0.5, backend="accelerator")
    needed = []
    monkeypatch.setattr(memory, "make_sure", needed.append)
    best_neighbour(queries, states, values, 0.5, backend="accelerator")
    monkeypatch.undo()
    free, before = needed[0] - 1, len(needed)
    assert before == 1
    monkeypatch.setattr(memory, "of_device", lambda: (free, 2**40))
    check(best_neighbour(queries, states, values, 0.5, backend="accelerator"), whole)
