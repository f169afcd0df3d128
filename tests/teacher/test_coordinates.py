"""Coordinates of a window's states."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.normalizer import fit_normalizer
from tskd_jax.teacher.coordinates import fit_coordinates, fit_residual


@pytest.fixture
def data(tiny_trajectories):
    return tiny_trajectories, fit_normalizer("gaussian", tiny_trajectories.observations)


def drift(amount):
    """A baseline: every state changes by that much."""
    return SimpleNamespace(next_state=lambda states: states + amount)


def fit(trajectories, normalizer, horizon, relative, baseline=None):
    """Coordinates, with a residual where there is a baseline."""
    coordinates = fit_coordinates(trajectories, normalizer, horizon, relative)
    if baseline is None:
        return coordinates
    return coordinates.replace(residual=fit_residual(trajectories, normalizer, baseline))


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("baseline", [None, drift(0.25)])
def test_decode_undoes_encode(data, relative, baseline):
    coordinates = fit(*data, 5, relative, baseline)
    states = np.random.default_rng(0).normal(size=(3, 4, data[0].observations.shape[1]))
    current = jnp.array([0, 1, 2])
    present = jnp.asarray(states[np.arange(3), np.arange(3)], jnp.float32)
    tokens = coordinates.encode(jnp.asarray(states, jnp.float32), present, current)
    np.testing.assert_allclose(coordinates.decode(tokens, present, current), states, atol=1e-5)


def test_all_but_the_present_are_differences_from_it_in_units_of_their_distance(data):
    coordinates = fit(*data, 4, True)
    states = np.random.default_rng(0).normal(size=(4, data[0].observations.shape[1]))
    present, current = jnp.asarray(states[None, 1], jnp.float32), jnp.array([1])
    tokens = coordinates.encode(jnp.asarray(states[None], jnp.float32), present, current)[0]
    np.testing.assert_allclose(tokens[1], states[1], rtol=1e-5)
    for position, distance in ((0, 1), (2, 1), (3, 2)):
        wanted = (states[position] - states[1]) / coordinates.scale[distance]
        np.testing.assert_allclose(tokens[position], wanted, rtol=1e-4)


def test_the_next_state_alone_is_a_residual(data):
    trajectories, normalizer = data
    coordinates = fit(*data, 5, True, drift(0.25))
    plain = fit(*data, 5, True)
    states = jnp.asarray(normalizer.normalize(trajectories.observations[:4]))[None]
    present, current = states[:, 1], jnp.array([1])
    tokens = coordinates.encode(states, present, current)
    others = np.array([0, 1, 3])
    np.testing.assert_array_equal(
        tokens[:, others], plain.encode(states, present, current)[:, others]
    )
    # In raw units: what is left of s', divided by the root mean square of that over the dataset.
    left = trajectories.next_observations - trajectories.observations - 0.25
    wanted = (trajectories.observations[2] - trajectories.observations[1] - 0.25) / np.sqrt(
        np.square(left).mean(0)
    )
    np.testing.assert_allclose(tokens[0, 2], wanted, rtol=1e-3, atol=1e-3)


def test_bounds_hold_all_but_the_rarest_residuals(data):
    trajectories, normalizer = data
    coordinates = fit(*data, 2, True, drift(0.25))
    low, high = coordinates.bounds(2, jnp.zeros(1, jnp.int32))
    pairs = jnp.stack(
        [
            normalizer.normalize(trajectories.observations),
            normalizer.normalize(trajectories.next_observations),
        ],
        1,
    )
    tokens = coordinates.encode(pairs, pairs[:, 0], jnp.zeros(len(pairs), jnp.int32))[:, 1]
    inside = (tokens >= low[:, 1] - 1e-4) & (tokens <= high[:, 1] + 1e-4)
    assert inside.mean(0).min() > 0.99


def test_a_dimension_that_moves_steadily_has_tokens_of_ordinary_size(data):
    clock = {}
    step = np.arange(data[0].size) - np.repeat(data[0].starts, data[0].lengths)
    for name, later in (("observations", 0), ("next_observations", 1)):
        clock[name] = getattr(data[0], name).copy()
        clock[name][:, 2] = 0.01 * (step + later)
    trajectories = data[0].replace(**clock)
    normalizer = fit_normalizer("gaussian", trajectories.observations)
    coordinates = fit(trajectories, normalizer, 3, True)
    # One step is always the same, so it is its own unit; none is amplified rounding.
    unit = np.asarray(normalizer.normalize(np.full((1, 3), 0.01, np.float32)))[0, 2]
    unit -= np.asarray(normalizer.normalize(np.zeros((1, 3), np.float32)))[0, 2]
    np.testing.assert_allclose(coordinates.scale[1:, 2], unit * np.arange(1, 3), rtol=1e-3)
    _, high = coordinates.bounds(3, jnp.zeros(1, jnp.int32))
    np.testing.assert_allclose(high[0, 1:, 2], 1, rtol=1e-2)


@pytest.mark.parametrize("baseline", [None, drift(0.0)])
def test_a_dimension_that_never_changes_is_finite(data, baseline):
    still = {}
    for name in ("observations", "next_observations"):
        still[name] = getattr(data[0], name).copy()
        still[name][:, 2] = 0.5
    trajectories = data[0].replace(**still)
    normalizer = fit_normalizer("gaussian", trajectories.observations)
    coordinates = fit(trajectories, normalizer, 3, True, baseline)
    current = jnp.zeros(4, jnp.int32)
    states = jnp.asarray(normalizer.normalize(trajectories.observations[:12])).reshape(4, 3, 3)
    tokens = np.asarray(coordinates.encode(states, states[:, 0], current))
    assert np.isfinite(tokens).all()
    for numbers in (tokens, *coordinates.bounds(3, current)):
        np.testing.assert_array_equal(numbers[:, 1:, 2], 0)
