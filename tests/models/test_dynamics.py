"""Tests of the dynamics ensemble: its densities against SciPy's, its training against the truth."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tskd_jax.data.normalizer import fit_normalizer
from tskd_jax.data.splits import split_rows
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.models import dynamics
from tskd_jax.models.dynamics import (
    DynamicsEnsemble,
    consistent_lengths,
    gaussian_log_density,
    log_densities,
    log_mean_exp,
    predictions,
)
from tskd_jax.training import seeds
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Fitted


def make_ensemble(data: np.ndarray, members: int = 3, seed: int = 0) -> DynamicsEnsemble:
    """Random networks with biases, whose means and deviations differ between members."""
    size = data.shape[1]
    model = DynamicsEnsemble(
        params=None,
        states=fit_normalizer("gaussian", data),
        change_mean=np.linspace(-1, 1, size).astype(np.float32),
        change_deviation=np.linspace(0.5, 2, size).astype(np.float32),
        resolution=np.zeros(1, np.float32),
        likelihood_quantiles=np.zeros(1001, np.float32),
        hidden=(16,),
    )
    keys = jax.random.split(jax.random.key(seed), members)
    return model.replace(params=jax.vmap(model.init)(keys))


def make_config(**fields) -> dynamics.Config:
    return dynamics.Config(
        **{"steps": 1000, "batch_size": 128, "learning_rate": 3e-3, "schedule": "cosine"}
        | {"hidden": (32,), "members": 3, "elites": 2, "resolution": 0.0}
        | fields
    )


def train(config: dynamics.Config, data: Trajectories, key: jax.Array):
    """(the ensemble of one seed, its metrics)."""
    models, (metrics,) = dynamics.train(config, data, keys=key[None])
    return seeds.of_seed(models, 0), metrics


def linear_gaussian(episodes: int = 60, length: int = 50) -> tuple[Trajectories, np.ndarray]:
    """s' = A s + noise of a known deviation, and that deviation."""
    rng = np.random.default_rng(0)
    matrix = np.array([[0.9, 0.2], [-0.2, 0.9]])
    deviation = np.array([0.1, 0.3])
    states = np.zeros((length + 1, episodes, 2))
    states[0] = rng.normal(size=(episodes, 2))
    for t in range(length):
        states[t + 1] = states[t] @ matrix.T + deviation * rng.normal(size=(episodes, 2))
    return make_data(states[:-1], states[1:]), deviation


def make_data(states: np.ndarray, next_states: np.ndarray) -> Trajectories:
    """Trajectories of (time, episode, state) arrays."""
    length, episodes, size = states.shape
    rows = length * episodes
    return from_columns(
        observations=states.transpose(1, 0, 2).reshape(rows, size),
        actions=np.zeros((rows, 1)),
        rewards=np.zeros(rows),
        next_observations=next_states.transpose(1, 0, 2).reshape(rows, size),
        terminals=np.zeros(rows, bool),
        lengths=np.full(episodes, length),
    )


@pytest.mark.parametrize("size", [1, 3, 11])
def test_density_is_scipys(size):
    rng = np.random.default_rng(size)
    mean, x = rng.normal(size=(2, size))
    deviation = rng.uniform(0.1, 2, size)
    expected = stats.multivariate_normal(mean, np.diag(deviation**2)).logpdf(x)
    actual = gaussian_log_density(*(jnp.asarray(a, jnp.float32) for a in (x, mean, deviation)))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_ensemble_densities_are_scipys_for_its_own_predictions():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(20, 3)).astype(np.float32)
    next_states = (states + rng.normal(size=(20, 3))).astype(np.float32)
    model = make_ensemble(states)
    mean, deviation = predictions(model, states)
    densities = log_densities(model, states, next_states)
    assert mean.shape == deviation.shape == (20, 3, 3)
    assert densities.shape == (20, 3)
    for n in range(20):
        for i in range(3):
            normal = stats.multivariate_normal(mean[n, i], np.diag(deviation[n, i] ** 2.0))
            assert densities[n, i] == pytest.approx(normal.logpdf(next_states[n]), rel=1e-3)
    # The right side of Equation 9: of 3 members, the mean of the densities themselves.
    expected = np.log(np.exp(densities.astype(np.float64)).mean(1))
    actual = model.log_mean_density(jnp.asarray(states), jnp.asarray(next_states))
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_predictions_by_hand():
    # Networks of zeros: the change has the data's mean and deviation, whatever the state.
    states = np.array([[0.0, 10.0], [2.0, 30.0]], np.float32)
    model = make_ensemble(states)
    model = model.replace(params=jax.tree.map(jnp.zeros_like, model.params))
    mean, deviation = predictions(model, states)
    np.testing.assert_allclose(mean[:, 0], [[-1, 11], [1, 31]], atol=1e-6)
    np.testing.assert_allclose(deviation[:, 2], [[0.5, 2], [0.5, 2]], atol=1e-6)


def test_log_mean_exp():
    np.testing.assert_allclose(log_mean_exp(jnp.log(jnp.array([[1.0, 2.0, 6.0]]))), np.log(3))
    # e^±400 has no place in single precision; a member that rules a pair out counts as 0.
    np.testing.assert_allclose(log_mean_exp(jnp.array([[400.0, 400.0]])), 400)
    np.testing.assert_allclose(
        log_mean_exp(jnp.array([[-400.0, -401.0]])), -400 + np.log((1 + np.exp(-1)) / 2)
    )
    np.testing.assert_allclose(log_mean_exp(jnp.array([[0.0, -jnp.inf]])), np.log(0.5))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_rows(rows):
    model = make_ensemble(np.eye(2, dtype=np.float32))
    assert log_densities(model, *np.zeros((2, rows, 2), np.float32)).shape == (rows, 3)
    assert predictions(model, np.zeros((rows, 2), np.float32))[0].shape == (rows, 3, 2)


def test_a_constant_dimension_is_finite():
    data, _ = linear_gaussian(5, 10)
    constant = np.full((data.size, 1), 7, np.float32)
    data = data.replace(
        observations=np.concatenate([data.observations, constant], 1),
        next_observations=np.concatenate([data.next_observations, constant], 1),
    )
    model = dynamics.create(make_config(), data)
    model = model.replace(params=jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3)))
    assert model.change_deviation[2] == 1
    assert model.change_mean[2] == 0
    # Also where a new state has another value there.
    moved = data.next_observations + np.array([0, 0, 1], np.float32)
    assert np.isfinite(log_densities(model, data.observations, data.next_observations)).all()
    assert np.isfinite(log_densities(model, moved, moved)).all()


def test_training_approaches_the_true_likelihood():
    data, deviation = linear_gaussian()
    model, metrics = train(make_config(), data, jax.random.key(0))
    # E log N(s'; As, σ²) = -Σ (log σ + ½ log 2π + ½): at best, and on new data.
    best = -(np.log(deviation) + 0.5 * np.log(2 * np.pi) + 0.5).sum()
    assert metrics["held_out_log_likelihood"] == pytest.approx(best, abs=0.2)
    mean, predicted = predictions(model, data.observations)
    np.testing.assert_allclose(np.median(predicted, (0, 1)), deviation, rtol=0.15)
    truth = data.observations @ np.array([[0.9, 0.2], [-0.2, 0.9]]).T
    error = np.sqrt(np.mean((mean.mean(1) - truth) ** 2, 0))
    assert (error < 0.3 * deviation).all()
    # A quantile of held-out likelihood is a level that held-out data passes that often.
    levels = model.likelihood_quantiles
    assert (np.diff(levels) >= 0).all()
    assert levels[0] < best < levels[-1]


def test_elites_are_the_best_on_held_out_data(monkeypatch):
    # Members that differ in one thing: they predict the change off by b deviations, which costs
    # b²/2 nats. The best three are those of b = 0, ½ and -1: members 1, 4 and 2.
    bias = np.array([3, 0, -1, 2, 0.5, 5, -4], np.float32)

    # Seeds have them in another order.
    biases = np.stack([bias, bias[::-1]])

    def no_training(training, _callbacks):
        params = jax.vmap(jax.vmap(training.init))(training.keys)
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
        params["params"]["Dense_1"]["bias"][:, :, 0] = biases
        return Fitted(params, params, {})

    monkeypatch.setattr(dynamics, "fit", no_training)
    data, _ = linear_gaussian()
    config = make_config(members=7, elites=3, held_out=0.3)
    keys = jax.random.split(jax.random.key(1), 2)
    models, metrics = dynamics.train(config, data, keys=keys)
    kept = models.params["params"]["Dense_1"]["bias"]
    assert kept[:, :, 0].tolist() == [[0, 0.5, -1]] * 2

    # What is reported is the likelihood of the elites' mixture on the rows held out.
    change = (data.next_observations - data.observations).astype(np.float64)
    z = (change - change.mean(0)) / change.std(0)
    mixture = np.mean(
        [stats.norm.pdf(z[:, 0], b) * stats.norm.pdf(z[:, 1]) for b in (0, 0.5, -1)], 0
    )
    likelihood = np.log(mixture) - np.log(change.std(0)).sum()
    for seed, key in enumerate(keys):
        rows, held_out = split_rows(data, 0.3, jax.random.split(key)[0])
        for name, expected in (("held_out", held_out), ("trained_on", rows)):
            assert metrics[seed][f"{name}_log_likelihood"] == pytest.approx(
                likelihood[expected].mean(), abs=1e-3
            )
        np.testing.assert_allclose(
            models.likelihood_quantiles[seed, [0, 500, 1000]],
            np.quantile(likelihood[held_out], [0, 0.5, 1]),
            atol=1e-3,
        )


def test_members_trained_together_are_those_trained_one_by_one():
    data, _ = linear_gaussian(10, 20)
    config = make_config(members=7, elites=7, steps=30)
    training, _ = dynamics.training(config, data, jax.random.key(0)[None])
    assert training.name == "dynamics"
    assert training.keys.shape == (1, 7)
    together = fit(training)
    # One stands for all: each costs a compilation.
    alone = fit(replace(training, keys=training.keys[:, 5:6]))
    for left, right in zip(
        jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True
    ):
        np.testing.assert_allclose(left[0, 5], right[0, 0], atol=1e-4)
    # And they are seven, not one seven times.
    first = together.params["params"]["Dense_0"]["kernel"][0]
    assert min(np.abs(first[i] - first[j]).max() for i in range(7) for j in range(i)) > 0.1


def test_seeds_trained_together_are_those_trained_one_by_one():
    data, _ = linear_gaussian(10, 20)
    config = make_config(members=2, elites=2, steps=30)
    keys = jax.random.split(jax.random.key(0), 2)
    together, metrics = dynamics.train(config, data, keys=keys)
    assert all(leaf.shape[:2] == (2, 2) for leaf in jax.tree.leaves(together.params))
    for i, key in enumerate(keys):
        alone, expected = train(config, data, key)
        assert metrics[i] == pytest.approx(expected, abs=1e-3)
        for left, right in zip(
            jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True
        ):
            np.testing.assert_allclose(left[i], right, atol=1e-4)
        # Of the whole model the seed is the leading axis, also of what all seeds share.
        for left, right in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            assert left.shape == (2, *right.shape)


def test_consistent_lengths_by_hand():
    # One dimension, change N(0, 1): a step d has log-density -½d² - 0.919. The median level here is
    # that of |d| = 2, so a trajectory ends before its first longer step.
    states = np.zeros((1, 1), np.float32)
    model = make_ensemble(states)
    model = model.replace(
        params=jax.tree.map(jnp.zeros_like, model.params),
        change_mean=np.zeros(1, np.float32),
        change_deviation=np.ones(1, np.float32),
        # Quantile q is at |d| = 4 (1 - q): at 0, 2 and 4 for q = 1, ½ and 0.
        likelihood_quantiles=(
            -0.5 * (4 * (1 - np.linspace(0, 1, 1001))) ** 2 - 0.5 * np.log(2 * np.pi)
        ).astype(np.float32),
    )
    steps = [[0, 1, 3, 0], [1.9, -1.9], [5], [0, 0, -2.1], [3, 0]]
    change = np.concatenate(steps).astype(np.float32)[:, None]
    data = from_columns(
        observations=np.zeros_like(change),
        actions=np.zeros_like(change),
        rewards=change[:, 0],
        next_observations=change,
        terminals=np.zeros(len(change), bool),
        lengths=[len(episode) for episode in steps],
    )
    assert consistent_lengths(model, data, 0.5).tolist() == [2, 2, 0, 2, 0]
    # At 0.2 the level is that of |d| = 3.2, at 0 that of 4.
    assert consistent_lengths(model, data, 0.2).tolist() == [4, 2, 0, 3, 2]
    assert consistent_lengths(model, data, 0.0).tolist() == [4, 2, 0, 3, 2]
    kept = data.truncate(consistent_lengths(model, data, 0.5))
    assert kept.lengths.tolist() == [2, 2, 2]
    assert np.abs(kept.rewards).max() <= 2
