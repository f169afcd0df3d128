"""Tests of the density-first search by matrix products against all pairs in double precision."""

import numpy as np
import pytest
from test_neighbours import cloud, density_case, far, log_normal, lopsided
from test_tree_search import first_rank, floors

from tskd_jax.stitching import product_search
from tskd_jax.stitching.density_test import GaussianTest


def log_densities(test, tested):
    """(Q, N, members) in double precision."""
    return log_normal(tested[None, :, None], test.mean[:, None], test.deviation[:, None])


def search(test, tested, above, also=None):
    """(what is found, what all pairs give, how many pairs were verified)."""
    passes = log_densities(test, tested).min(-1) > test.threshold[:, None]
    if also is not None:
        passes &= also
    verified = []

    def qualifies(query, rank):
        verified.append(len(query))
        assert (rank < above[query]).all()
        return passes[query, rank]

    best = above.astype(np.int64)
    product_search.lower(best, np.flatnonzero(above > 0), tested, test, qualifies)
    return best, first_rank(passes, above), sum(verified)


@pytest.mark.parametrize("pairs", [(7, 7), (16, 160), (4096, 1 << 20)])
@pytest.mark.parametrize("points", [cloud, lopsided, far])
@pytest.mark.parametrize("dimension", [1, 3, 17])
def test_nothing_is_missed(monkeypatch, pairs, points, dimension):
    monkeypatch.setattr(product_search, "BLOCK", pairs[0])
    monkeypatch.setattr(product_search, "PAIRS", pairs[1])
    for seed in range(6):
        rng = np.random.default_rng([seed, dimension])
        _, states = points(rng, dimension)
        _, _, test = density_case(rng, dimension)
        # Around some of the states, in the units of each dimension.
        spread = states.std(0) * 10 ** rng.uniform(-2, 0.5, size=(40, 3, dimension))
        mean = states[rng.integers(len(states), size=(40, 1))] + 0.3 * spread
        test = GaussianTest(mean.astype(np.float32), spread.astype(np.float32), test.threshold)
        # On the density of a state, by a hair below or above it, and wide or narrow.
        densities = log_densities(test, states).min(-1)
        chosen = np.take_along_axis(densities, rng.integers(len(states), size=(40, 1)), 1)[:, 0]
        test = test._replace(threshold=chosen + rng.choice([-1e-9, 0, 1e-9, -5, 5], 40))
        test.threshold[:2] = -np.inf, np.inf  # everything passes, and nothing
        above = floors(rng, 40, len(states))
        near = rng.random((40, len(states))) < 0.5
        found, expected, _ = search(test, states, above, near)
        np.testing.assert_array_equal(found, expected, f"{seed=}")


def test_numbers_that_do_not_fit_single_precision():
    states = np.array([[0.0, 1e30], [1.0, -1e30], [0.5, 3.0]])
    mean = np.array([[[0.5, 3.0]], [[1.0, -1e30]]])
    deviation = np.array([[[1e-30, 1.0]], [[1.0, 1e25]]])
    test = GaussianTest(mean, deviation, np.array([0.0, -70.0]))
    found, expected, _ = search(test, states, np.array([3, 3]))
    assert found.tolist() == expected.tolist() == [2, 1]


def test_few_that_do_not_pass_are_verified():
    # In 17 dimensions the five nearest of 5000 states pass, and the limit is far from the sixth.
    rng = np.random.default_rng(0)
    states = rng.normal(size=(5000, 17)).astype(np.float32)
    mean = states[:200, None]
    deviation = np.full((200, 1, 17), 0.4, np.float32)
    densities = log_densities(GaussianTest(mean, deviation, np.zeros(200)), states)[..., 0]
    test = GaussianTest(mean, deviation, np.quantile(densities, 0.9991, 1))
    nothing = np.zeros(densities.shape, bool)
    found, expected, verified = search(test, states, np.full(200, 5000), nothing)
    assert found.tolist() == expected.tolist() == 200 * [5000]
    assert 200 * 5 <= verified < 1.01 * 200 * 5


def test_where_all_pass_one_is_verified():
    test = GaussianTest(np.zeros((3, 2, 2)), np.ones((3, 2, 2)), np.full(3, -100.0))
    above = np.array([9, 4, 9])
    found, expected, verified = search(test, np.zeros((9, 2)), above)
    assert found.tolist() == expected.tolist() == [0, 0, 0]
    assert verified == 3


def test_the_first_that_qualifies_is_found_among_many_that_pass():
    test = GaussianTest(np.zeros((2, 1, 2)), np.ones((2, 1, 2)), np.full(2, -100.0))
    also = np.zeros((2, 60), bool)
    also[0, [17, 40]] = also[1, 59] = True
    found, _, verified = search(test, np.zeros((60, 2)), np.array([60, 60]), also)
    assert found.tolist() == [17, 59]
    # The first, the next four (as places below 4) and so on: 1 + 4 + 16 + … of each query.
    assert verified < 60 + 40


def test_the_smallest_of_the_members_is_compared():
    # The second member passes what is within √2 of 5, the first almost everything.
    mean = np.array([[[0.0], [5.0]]])
    deviation = np.array([[[100.0], [1.0]]])
    threshold = np.array([-0.5 * np.log(2 * np.pi) - 6])
    states = np.arange(-20.0, 20.0)[:, None]
    test = GaussianTest(mean, deviation, threshold)
    found, expected, verified = search(test, states, np.array([40]))
    assert found.tolist() == expected.tolist()
    assert verified == 1
