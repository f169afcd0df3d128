"""Tests of the normalisers: what each kind promises of a column, and what a constant one does."""

import numpy as np
import pytest

from tskd_jax.data.normalizer import KINDS, fit_normalizer, moments
from tskd_jax.errors import ConfigError

# Columns of different units, one of them skewed, and one that never changes.
CONSTANT = 3.14159
rng = np.random.default_rng(0)
DATA = np.stack(
    [
        rng.normal(size=2000),
        50 + 1e-2 * rng.normal(size=2000),
        rng.exponential(100.0, size=2000),
        np.full(2000, CONSTANT),
    ],
    -1,
).astype(np.float32)
VARYING = [0, 1, 2]


def test_limits_maps_the_extremes_to_one():
    x = np.asarray(fit_normalizer("limits", DATA).normalize(DATA))
    np.testing.assert_allclose(x[:, VARYING].min(0), -1, atol=1e-4)
    np.testing.assert_allclose(x[:, VARYING].max(0), 1, atol=1e-4)


def test_limits_by_hand():
    # [0, 10]: 5 is the middle, 7.5 three quarters of the way; beyond the range the line goes on.
    normalizer = fit_normalizer("limits", np.array([[0.0], [10.0], [2.0]]))
    x = normalizer.normalize(np.array([[5.0], [7.5], [20.0]], np.float32))
    np.testing.assert_allclose(x, [[0], [0.5], [3]], atol=1e-6)


def test_gaussian_has_mean_zero_and_deviation_one():
    x = np.asarray(fit_normalizer("gaussian", DATA).normalize(DATA), np.float64)
    np.testing.assert_allclose(x[:, VARYING].mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(x[:, VARYING].std(0), 1, atol=1e-3)


def test_gaussian_by_hand():
    # 1, 2, 3, 4, 5: mean 3, deviation √2.
    normalizer = fit_normalizer("gaussian", np.arange(1.0, 6)[:, None])
    x = normalizer.normalize(np.array([[3.0], [5.0], [-1.0]], np.float32))
    np.testing.assert_allclose(x, [[0], [2 / np.sqrt(2)], [-4 / np.sqrt(2)]], atol=1e-6)


def test_cdf_is_uniform():
    x = np.asarray(fit_normalizer("cdf", DATA).normalize(DATA))
    levels = np.linspace(0, 1, 21)
    for d in VARYING:
        np.testing.assert_allclose(np.quantile(x[:, d], levels), 2 * levels - 1, atol=0.01)


def test_cdf_clips_beyond_the_data():
    normalizer = fit_normalizer("cdf", DATA)
    x = np.asarray(normalizer.normalize(np.full((1, 4), 1e6, np.float32)))
    np.testing.assert_array_equal(x[0, VARYING], 1)


def test_cdf_of_ties_is_one_valued():
    # Half of the data is 0: its image is the middle of [-1, 0], and the way back is unambiguous.
    column = np.concatenate([np.zeros(1000), np.linspace(1, 2, 1000)])[:, None].astype(np.float32)
    normalizer = fit_normalizer("cdf", column)
    x = np.asarray(normalizer.normalize(column))
    assert (x[:1000] == x[0]).all()
    assert x[0, 0] == pytest.approx(-0.5, abs=0.01)
    np.testing.assert_allclose(normalizer.unnormalize(x), column, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_monotone(kind):
    x = np.sort(DATA, 0)
    assert (np.diff(np.asarray(fit_normalizer(kind, DATA).normalize(x)), axis=0) >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_within_the_range(kind):
    normalizer = fit_normalizer(kind, DATA)
    back = np.asarray(normalizer.unnormalize(normalizer.normalize(DATA)))
    spread = np.where(DATA.std(0) > 0, DATA.std(0), 1)
    assert (np.abs(back - DATA) / spread).max() < 2e-3


@pytest.mark.parametrize("kind", KINDS)
def test_low_and_high_are_the_normalised_range(kind):
    normalizer = fit_normalizer(kind, DATA)
    x = np.asarray(normalizer.normalize(DATA))
    np.testing.assert_allclose(normalizer.low, x.min(0), atol=1e-5)
    np.testing.assert_allclose(normalizer.high, x.max(0), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("constant", [0.0, CONSTANT, -1e6, 1e-30, 0.1])
def test_a_constant_dimension(kind, constant):
    column = np.full((1001, 1), constant, np.float32)
    normalizer = fit_normalizer(kind, column)
    # Not only the constant itself: a sampler or a new state may come with anything.
    others = np.array([[constant], [constant + 1], [-7.0]], np.float32)
    np.testing.assert_array_equal(normalizer.normalize(others), 0)
    np.testing.assert_array_equal(
        np.asarray(normalizer.unnormalize(np.array([[0.0], [1.0], [-1.0]], np.float32))),
        np.full((3, 1), constant, np.float32),
    )
    assert normalizer.low == normalizer.high == 0


@pytest.mark.parametrize("kind", KINDS)
def test_one_row(kind):
    row = np.array([[1.0, -2.0, 0.0]], np.float32)
    normalizer = fit_normalizer(kind, row)
    np.testing.assert_array_equal(normalizer.normalize(row), np.zeros((1, 3)))
    np.testing.assert_array_equal(normalizer.unnormalize(np.zeros((1, 3), np.float32)), row)


@pytest.mark.parametrize("kind", KINDS)
def test_two_rows(kind):
    rows = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32)
    normalizer = fit_normalizer(kind, rows)
    x = np.asarray(normalizer.normalize(rows))
    # Two values are the extremes, the mean ± the deviation, and the quantiles 0 and 1.
    np.testing.assert_allclose(x, [[-1, 0], [1, 0]], atol=1e-6)
    np.testing.assert_allclose(normalizer.unnormalize(x), rows, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(4,), (0, 4), (5, 4), (2, 5, 4), (1, 2, 3, 4)])
def test_any_leading_shape(kind, shape):
    normalizer = fit_normalizer(kind, DATA)
    x = np.resize(DATA[:7], shape)
    assert normalizer.normalize(x).shape == normalizer.unnormalize(x).shape == shape
    flat = np.asarray(normalizer.normalize(x.reshape(-1, 4)))
    np.testing.assert_allclose(normalizer.normalize(x), flat.reshape(shape), atol=1e-6)


def test_unknown_kind():
    with pytest.raises(ConfigError, match="'ranks' is unknown; one of limits, cdf, gaussian"):
        fit_normalizer("ranks", DATA)


def test_moments_of_many_rows_far_from_zero():
    rng = np.random.default_rng(0)
    constant = np.full(300_000, 1234.567, np.float32)
    moving = (1000 + rng.normal(size=constant.size)).astype(np.float32)
    mean, deviation = moments(np.stack([constant, moving], 1))
    assert deviation[0] == 0
    assert mean[0] == constant[0]
    np.testing.assert_allclose(mean[1], moving.astype(np.float64).mean(), rtol=1e-12)
    np.testing.assert_allclose(deviation[1], moving.astype(np.float64).std(), rtol=1e-9)
