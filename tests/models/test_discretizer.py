"""Tests of tokens: what they stand for, their edges, ties, and what lies outside."""

import numpy as np
import pytest

from tskd_jax.errors import ConfigError
from tskd_jax.models.discretizer import fit_discretizer


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)[:, None]


@pytest.mark.parametrize("kind", ["quantile", "uniform"])
def test_there_and_back(kind):
    x = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32) * [1, 10, 0.1]
    x = x.astype(np.float32)
    bins = fit_discretizer(kind, x, 20)
    tokens = bins.encode(x)
    assert tokens.min() == 0
    assert tokens.max() == 19
    again = bins.decode(tokens)
    np.testing.assert_array_equal(bins.encode(again), tokens)
    # Off by less than the bin is wide, and right on average.
    for d in range(3):
        width = np.diff(bins.edges[:, d])[tokens[:, d]]
        assert (np.abs(again[:, d] - x[:, d]) <= width + 1e-5).all()
    np.testing.assert_allclose(again.mean(0), x.mean(0), atol=1e-4)
    counts = np.bincount(tokens[:, 0], minlength=20)
    assert (np.ptp(counts) <= 2) == (kind == "quantile")


def test_edges_by_hand():
    bins = fit_discretizer("uniform", column(0, 1, 2, 4), 4)
    assert bins.edges[:, 0].tolist() == [0, 1, 2, 3, 4]
    # An edge belongs to the bin on its right, the last one to the last bin; so does what is beyond.
    found = bins.encode(column(-9, 0, 0.5, 1, 2, 3, 3.5, 4, 99))
    assert found[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 3, 3, 3]
    # No data lie in the third bin but 2, none between 3 and 4 but 4.
    assert bins.decode(np.arange(4)[:, None])[:, 0].tolist() == [0, 1, 2, 4]


def test_quantiles_by_hand():
    bins = fit_discretizer("quantile", column(0, 10, 11, 12, 100), 2)
    assert bins.edges[:, 0].tolist() == [0, 11, 100]
    assert bins.encode(column(0, 10, 11, 12, 100))[:, 0].tolist() == [0, 0, 1, 1, 1]
    assert bins.decode(np.array([[0], [1]]))[:, 0].tolist() == [5, 41]


@pytest.mark.parametrize("rare", [[1.0], [1.0, 2.0, 4.0], range(1, 200)])
def test_rare_rewards_keep_bins_of_their_own(rare):
    """Of a thousand transitions hardly any has a reward."""
    x = np.zeros((40_000, 1), np.float32)
    x[: len(rare), 0] = rare
    bins = fit_discretizer("quantile", x, 100)
    again = bins.decode(bins.encode(x))
    # 200 numbers share 100 bins by twos.
    np.testing.assert_allclose(again, x, atol=0 if len(rare) < 100 else 1)
    assert bins.encode(x)[len(rare) - 1, 0] != bins.encode(x)[-1, 0]


def test_few_numbers_by_hand():
    bins = fit_discretizer("quantile", column(0, 0, 0, 0, 0, 0, 1, 3), 4)
    assert bins.edges[:, 0].tolist() == [0, 1, 3, 3, 3]
    assert bins.encode(column(0, 0.5, 1, 2, 3, 9))[:, 0].tolist() == [0, 0, 1, 1, 3, 3]


@pytest.mark.parametrize("kind", ["quantile", "uniform"])
def test_a_constant_comes_back(kind):
    bins = fit_discretizer(kind, column(3, 3, 3), 5)
    assert bins.decode(bins.encode(column(3.0)))[0, 0] == 3


def test_an_empty_bin_stands_for_its_middle():
    bins = fit_discretizer("uniform", column(0, 4), 2)
    assert bins.decode(np.array([[0], [1]]))[:, 0].tolist() == [0, 4]
    bins = fit_discretizer("uniform", column(0, 9), 3)
    assert bins.decode(np.array([[1]]))[0, 0] == 4.5


def test_a_part_of_the_dimensions():
    bins = fit_discretizer("uniform", np.array([[0, 0], [1, 100]], np.float32), 10)
    tokens = bins.encode(column(35.0), first=1)
    assert tokens[0, 0] == 3
    assert bins.decode(tokens, first=1)[0, 0] == 35
    # The token of an episode's end stands for nothing, and must not be an error.
    assert bins.decode(np.array([[10]]), first=1)[0, 0] == 100


def test_an_unknown_kind():
    with pytest.raises(ConfigError, match="quantile, uniform"):
        fit_discretizer("log", column(1, 2), 2)
