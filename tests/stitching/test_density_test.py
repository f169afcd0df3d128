"""Tests of the density test: densities against SciPy's, and balls that must hold what passes."""

import numpy as np
import pytest
from scipy.stats import norm

from tskd_jax.stitching.density_test import GaussianTest


def random_test(rng, queries, members, dimension):
    """In double precision; dimensions differ by up to a hundred, members by less."""
    shape = queries, members, dimension
    deviation = 10 ** rng.uniform(-1, 1, size=(queries, 1, dimension)) * rng.uniform(
        0.7, 1.4, shape
    )
    mean = rng.normal(size=(queries, 1, dimension)) + 0.3 * deviation * rng.normal(size=shape)
    # Some deviations from each mean, and beyond reach for a few.
    peak = norm.logpdf(0, scale=deviation).sum(-1).min(1)
    return GaussianTest(mean, deviation, peak - rng.uniform(-0.2, 2 * dimension, queries))


def densities(test, states):
    """(Q, members, N) log N."""
    mean, deviation = test.mean[:, :, None], test.deviation[:, :, None]
    return norm.logpdf(states[None, None], mean, deviation).sum(-1)


@pytest.mark.parametrize("dimension", [1, 3, 11])
@pytest.mark.parametrize("members", [1, 3])
def test_what_passes(members, dimension):
    rng = np.random.default_rng(dimension)
    test = random_test(rng, 40, members, dimension)
    near = test.mean[:, 0] + 0.3 * test.deviation[:, 0] * rng.normal(size=(40, dimension))
    expected = densities(test, near).min(1) > test.threshold[:, None]
    query, state = np.indices(expected.shape).reshape(2, -1)
    passes = test.passes(query, near[state]).reshape(expected.shape)
    assert 0 < expected.mean() < 1
    assert expected.diagonal().any()
    np.testing.assert_array_equal(passes, expected)
    # What lies below the limits of all members passes, which is the other way to say it.
    offsets = (near[None, None] - test.mean[:, :, None]) / test.deviation[:, :, None]
    squares = np.square(offsets).sum(-1)
    np.testing.assert_array_equal((squares < test.square_limits()[..., None]).all(1), expected)


def test_the_threshold_is_exclusive():
    # log N(0; 0, 1) = -½ log 2π
    peak = -0.5 * np.log(2 * np.pi)
    threshold = np.array([np.nextafter(peak, -1), peak, -np.inf, np.inf])
    test = GaussianTest(np.zeros((4, 1, 1)), np.ones((4, 1, 1)), threshold)
    assert test.passes(np.arange(4), np.zeros((4, 1))).tolist() == [True, False, True, False]


def test_no_state_passes_or_fails():
    test = GaussianTest(np.zeros((2, 3, 1)), np.ones((2, 3, 1)), np.zeros(2))
    assert test.passes(np.arange(0), np.zeros((0, 1))).shape == (0,)


def test_single_precision_is_judged_in_double():
    # 1 - 2⁻²⁵ is 1 in single precision. Its square is 1 - 2⁻²⁴, so that the density is 2⁻²⁵ above
    # that at one deviation, and the threshold lies between the two.
    mean, deviation = np.full((1, 1, 1), 2.0**-25, np.float32), np.ones((1, 1, 1), np.float32)
    test = GaussianTest(mean, deviation, np.array([-0.5 - 0.5 * np.log(2 * np.pi) + 2.0**-26]))
    assert test.passes(np.array([0]), np.ones((1, 1), np.float32)).tolist() == [True]


def test_square_limits_by_hand():
    # log N(x) = -½ z² - ½ log 2π, above -½ log 2π - 2: z² < 4.
    half = 0.5 * np.log(2 * np.pi)
    test = GaussianTest(np.zeros((1, 1, 1)), np.ones((1, 1, 1)), np.array([-half - 2]))
    np.testing.assert_allclose(test.square_limits(), [[4]], rtol=1e-15)
    # Two dimensions, deviations 1 and 2, and as a second member 3 and 4: -½ Σz² - log 2π - log 2
    # above -log 2π - log 2 - ½, so Σz² < 1; the other one lacks log 6.
    deviation = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    test = GaussianTest(np.zeros((1, 2, 2)), deviation, np.array([-2 * half - np.log(2) - 0.5]))
    np.testing.assert_allclose(test.square_limits(), [[1, 1 - 2 * np.log(6)]], rtol=1e-12)


@pytest.mark.parametrize(("threshold", "limit"), [(-np.inf, np.inf), (np.inf, -np.inf)])
def test_limits_of_infinite_thresholds(threshold, limit):
    test = GaussianTest(np.zeros((1, 2, 3)), np.ones((1, 2, 3)), np.array([threshold]))
    assert test.square_limits().tolist() == [[limit, limit]]
    _, radius = test.balls(np.ones(3))
    assert radius.tolist() == [max(limit, 0)]


def test_the_test_of_some_queries():
    rng = np.random.default_rng(0)
    test = random_test(rng, 5, 2, 3)
    part = test.select(np.array([3, 3, 0]))
    assert part.mean.shape == part.deviation.shape == (3, 2, 3)
    x = test.mean[[3, 3, 0], 0]
    expected = test.passes(np.array([3, 3, 0]), x)
    assert part.passes(np.arange(3), x).tolist() == expected.tolist()
    assert test.select(np.arange(0)).threshold.shape == (0,)


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("dimension", [1, 2, 3, 11])
def test_balls_hold_all_that_passes(dimension, members):
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        test = random_test(rng, 30, members, dimension)
        # On the surface of each member's ellipsoid, a little inside, and at the end of its axes.
        limits = np.sqrt(np.maximum(test.square_limits(), 0))
        direction = rng.normal(size=(200, dimension))
        direction[: 2 * dimension] = np.repeat(np.eye(dimension), 2, 0)
        direction[: 2 * dimension : 2] *= -1
        direction *= (1 - 1e-9) / np.sqrt(np.square(direction).sum(1, keepdims=True))
        reach = (test.deviation * limits[..., None])[:, :, None]
        states = test.mean[:, :, None] + direction * reach
        states = states.reshape(30, -1, dimension)
        query = np.repeat(np.arange(30), states.shape[1])
        passes = test.passes(query, states.reshape(-1, dimension)).reshape(30, -1)
        for unit in (np.ones(dimension), np.median(test.deviation, (0, 1)), 10.0**-seed):
            unit = np.broadcast_to(unit, dimension)
            centre, radius = test.balls(unit)
            away = np.sqrt(np.square(states / unit - centre[:, None]).sum(-1))
            assert (away[passes] <= np.broadcast_to(radius[:, None], away.shape)[passes]).all()
            # Where one member can accept nothing, there is nothing to look at.
            assert ((radius == 0) == (limits == 0).any(1)).all()
        inside += passes.sum()
    assert inside > 1000


def test_balls_by_hand():
    # Σz² < 4 at deviations 1 and 2: 2 · 2 in units of 1. In units of the deviations it is 2; in
    # units of 2 and 1 it is 2 · 2 again.
    half = 0.5 * np.log(2 * np.pi)
    mean, deviation = np.array([[[3.0, 5.0]]]), np.array([[[1.0, 2.0]]])
    test = GaussianTest(mean, deviation, np.array([-2 * half - np.log(2) - 2]))
    for unit, expected in (([1, 1], 4), ([1, 2], 2), ([2, 1], 4)):
        centre, radius = test.balls(np.array(unit, float))
        assert centre.tolist() == [[3 / unit[0], 5 / unit[1]]]
        # A little wider than that.
        np.testing.assert_allclose(radius, [expected], rtol=1e-6)
        assert radius[0] > expected


def test_the_smallest_ball_of_the_members():
    # log N at deviation σ is -½ z² - log σ - ½ log 2π: above -½ log 2π - 2 it is z² < 4 - 2 log σ.
    # Radii: 1 · 2, ½ · √(4 + 2 log 2) = 1.16, 2 · √(4 - 2 log 2) = 3.23.
    half = 0.5 * np.log(2 * np.pi)
    mean = np.array([[[0.0], [1.0], [2.0]]])
    deviation = np.array([[[1.0], [0.5], [2.0]]])
    test = GaussianTest(mean, deviation, np.array([-half - 2]))
    centre, radius = test.balls(np.ones(1))
    assert centre.tolist() == [[1.0]]
    np.testing.assert_allclose(radius, [0.5 * np.sqrt(4 + 2 * np.log(2))], rtol=1e-6)
    # At a deviation of e^2.5 that is z² < -1: what one member never accepts, none does.
    deviation[0, 2] = np.exp(2.5)
    _, radius = test.balls(np.ones(1))
    assert radius.tolist() == [0.0]


def test_balls_hold_what_passes_in_single_precision():
    # At 100 with a deviation of 0.1, single precision has steps of 6e-5 deviations; what passes by
    # less lies in the ball too.
    x = (100 + np.arange(-50, 50)[:, None] / 128).astype(np.float32)
    deviation = np.full((100, 1, 1), 0.1, np.float32)
    mean = np.full((100, 1, 1), 100, np.float32)
    # A hair below the density of each.
    densities = norm.logpdf(x[:, 0].astype(np.float64), 100, float(deviation[0, 0, 0]))
    test = GaussianTest(mean, deviation, densities - 1e-6)
    assert test.passes(np.arange(100), x).all()
    unit = np.full(1, 0.1, np.float32)
    centre, radius = test.balls(unit)
    away = np.abs(x.astype(np.float64) / unit - centre)[:, 0]
    assert (away <= radius).all()
