"""Tests of V: TD(0) on chains whose values are arithmetic."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.normalizer import fit_normalizer
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.models import value
from tskd_jax.models.value import Value
from tskd_jax.training import seeds

STATES = np.eye(3, dtype=np.float32)


def make_chain(path, rewards, terminal: bool) -> Trajectories:
    """An episode along those of three states; the last of `path` is only a next state."""
    steps = len(rewards)
    return from_columns(
        observations=STATES[path[:-1]],
        actions=np.zeros((steps, 1)),
        rewards=rewards,
        next_observations=STATES[path[1:]],
        terminals=np.arange(steps) == (steps - 1 if terminal else -1),
        lengths=[steps],
    )


def make_config(**fields) -> value.Config:
    return value.Config(
        **{"steps": 1000, "batch_size": 32, "learning_rate": 1e-2, "hidden": (16,)}
        | {"discount": 0.5, "target_average": 0.1}
        | fields
    )


def train(data: Trajectories, **fields) -> Value:
    """V of one seed."""
    return train_and_measure(data, **fields)[0]


def train_and_measure(data: Trajectories, **fields) -> tuple[Value, dict]:
    """(V of one seed, its metrics)."""
    models, (metrics,) = value.train(make_config(**fields), [data], keys=jax.random.key(0)[None])
    return seeds.of_seed(models, 0), metrics


def test_a_chain_of_three_states():
    # 0 → 1 → 2 → end with rewards 1, 2, 3 and γ = ½: V(2) = 3, V(1) = 2 + 3/2 = 3.5,
    # V(0) = 1 + 3.5/2 = 2.75.
    model = train(make_chain([0, 1, 2, 0], [1, 2, 3], terminal=True))
    np.testing.assert_allclose(value.values(model, STATES), [2.75, 3.5, 3], atol=0.05)


def test_a_truncation_is_bootstrapped_through():
    # The same chain, cut behind state 2, from which it would have gone to 0 again:
    # V(0) = 1 + V(1)/2, V(1) = 2 + V(2)/2, V(2) = 3 + V(0)/2
    # V(0) = 1 + 1 + 3/4 + V(0)/8, so V(0) = 2.75 · 8/7 = 22/7, V(2) = 32/7, V(1) = 30/7.
    model = train(make_chain([0, 1, 2, 0], [1, 2, 3], terminal=False))
    np.testing.assert_allclose(value.values(model, STATES), [22 / 7, 30 / 7, 32 / 7], atol=0.1)


def test_values_are_in_units_of_reward():
    # The first chain, in thousands and negative.
    data = make_chain([0, 1, 2, 0], [-1000, -2000, -3000], terminal=True)
    np.testing.assert_allclose(value.values(train(data), STATES), [-2750, -3500, -3000], rtol=0.02)


def test_equal_returns_do_not_divide_by_zero():
    model = train(make_chain([0, 1], [2.0], terminal=True))
    assert float(model.scale) == 1
    np.testing.assert_allclose(value.values(model, STATES[:1]), [2], atol=0.1)


def test_a_target_that_never_moves_is_the_first_net():
    # V(0) = 1 + γ V₀(1), V(1) = 2 + γ V₀(2), V(2) = 3, each net with its own V₀.
    data = make_chain([0, 1, 2, 0], [1, 2, 3], terminal=True)
    states = jnp.asarray(STATES)
    first = train(data, steps=1, learning_rate=0.0)
    moved = train(data, target_average=0.0)
    for net in range(2):
        before, after = (
            np.asarray(model.one(jax.tree.map(lambda x, net=net: x[net], model.params), states))
            for model in (first, moved)
        )
        goals = np.array([1, 2, 3]) / moved.scale + 0.5 * np.append(before[1:], 0)
        np.testing.assert_allclose(after, goals, atol=0.02)
        assert np.abs(before - goals).max() > 0.5  # it was not there from the start


def test_values_are_compared_with_returns():
    # Hardly trained, so that they neither agree nor disagree in full.
    data = make_chain([0, 1, 2, 0, 2], [1, 5, -3, 4], terminal=True)
    model, metrics = train_and_measure(data, steps=1)
    estimates, returns = value.values(model, data.observations), data.returns_to_go(0.5)
    expected = np.corrcoef(estimates, returns)[0, 1]
    assert abs(expected) < 0.99
    assert metrics["correlation_with_returns"] == pytest.approx(expected, abs=1e-4)
    assert metrics["mean"] == pytest.approx(estimates.mean(), abs=1e-5)
    # Where nothing varies there is no correlation, and no division by zero.
    _, metrics = train_and_measure(make_chain([0, 1], [2.0], terminal=True), steps=1)
    assert metrics["correlation_with_returns"] == 0


def make_value(biases: list[float], scale: float = 1.0) -> Value:
    """Nets of zeros with a last bias: constant functions."""
    model = Value(
        params=None,
        states=fit_normalizer("gaussian", STATES),
        scale=np.float32(scale),
        hidden=(4,),
    )
    keys = jax.random.split(jax.random.key(0), len(biases))
    params = jax.tree.map(jnp.zeros_like, jax.vmap(model.init)(keys))
    params["params"]["Dense_1"]["bias"] = jnp.array(biases)[:, None]
    return model.replace(params=params)


@pytest.mark.parametrize("biases", [[2.0, -1.0], [-1.0, 2.0]])
def test_the_minimum_of_two_nets(biases):
    np.testing.assert_array_equal(value.values(make_value(biases, 10.0), STATES), [-10, -10, -10])


def test_the_minimum_is_taken_state_by_state():
    keys = jax.random.split(jax.random.key(3), 2)
    model = make_value([0.0, 0.0])
    params = jax.vmap(model.init)(keys)
    states = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    one, other = (
        np.asarray(model.one(jax.tree.map(lambda leaf, i=i: leaf[i], params), jnp.asarray(states)))
        for i in range(2)
    )
    assert 0 < (one < other).mean() < 1
    actual = value.values(model.replace(params=params), states)
    np.testing.assert_allclose(actual, np.minimum(one, other), atol=1e-5)


def test_the_two_nets_are_trained_apart():
    data = make_chain([0, 1, 2, 0], [1, 2, 3], terminal=True)
    kernel = np.asarray(train(data, steps=10).params["params"]["Dense_0"]["kernel"])
    assert kernel.shape[0] == 2
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1


def test_seeds_trained_together_are_those_trained_one_by_one_on_their_own_data():
    # Different lengths, states and rewards: rows are padded, normaliser and scale differ.
    datasets = [
        make_chain([0, 1, 2, 0], [1, 2, 3], terminal=True),
        make_chain([1, 2, 0, 2, 1, 0, 0], [-40, 5, 7, 0, 20, 10], terminal=False),
    ]
    keys, config = jax.random.split(jax.random.key(0), 2), make_config(steps=30)
    training = value.training(config, datasets, keys)
    assert training.name == "value"
    assert training.keys.shape == (2, 2)
    together, metrics = value.train(config, datasets, keys=keys)
    assert together.scale.shape == (2,)
    assert together.scale[1] > 2 * together.scale[0]
    assert all(leaf.shape[:2] == (2, 2) for leaf in jax.tree.leaves(together.params))
    for i in range(2):
        alone, (expected,) = value.train(config, datasets[i : i + 1], keys=keys[i : i + 1])
        assert metrics[i] == pytest.approx(expected, abs=1e-3)
        for left, right in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            assert left.shape == (2, *right.shape[1:])
            np.testing.assert_allclose(left[i], right[0], atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_rows(rows):
    assert value.values(make_value([1.0, 2.0]), np.zeros((rows, 3), np.float32)).shape == (rows,)


def test_equal_states_have_equal_values_in_every_row():
    # A stitch to a state needs V above that of the recorded next state: rounding that depended on
    # a state's row would make it better than itself.
    keys = jax.random.split(jax.random.key(3), 2)
    model = Value(
        params=None,
        states=fit_normalizer("gaussian", np.random.default_rng(0).normal(size=(50, 11))),
        scale=np.float32(100),
        hidden=(256, 256),
    )
    model = model.replace(params=jax.vmap(model.init)(keys))
    state = np.random.default_rng(1).normal(size=(1, 11)).astype(np.float32)
    for rows in (3, 37, 1000):
        assert len(np.unique(value.values(model, np.repeat(state, rows, 0)))) == 1
