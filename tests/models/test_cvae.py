"""The CVAE of actions: its loss and sizes by hand, and two modes that no mean would hit."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.two_modes import ACTION, HOPPER, TASK, of_size, queries, recorded, resumed_after_a_kill

from tskd_jax.models import cvae
from tskd_jax.models.cvae import kl_divergence, sample_actions
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.training import seeds

TINY = cvae.Config(steps=20, batch_size=32, learning_rate=1e-2, hidden_small=(16,))


def test_the_divergence_by_hand():
    # ½ (μ² + σ² - 1) - ln σ
    found = kl_divergence(jnp.array([0.0, 1.0, 0.0]), jnp.log(jnp.array([1.0, 1.0, 2.0])))
    np.testing.assert_allclose(found, [0, 0.5, 1.5 - np.log(2)], rtol=1e-6, atol=1e-7)


def test_the_loss_by_hand():
    config = cvae.Config(hidden_small=(8,), kl_weight=3.0)
    plan, _ = cvae.training(config, recorded(50), TASK, jax.random.key(0)[None])
    params = jax.tree.map(jnp.zeros_like, plan.init(jax.random.key(0)))
    states, actions = jnp.array([[0.5], [-0.5]]), jnp.array([[0.6], [-0.2]])
    # q is the prior, and all actions are decoded as 0.
    batch = states, -states, actions
    squares = (0.6**2 + 0.2**2) / 2
    assert plan.loss(params, None, batch, jax.random.key(1)) == pytest.approx(squares)
    # The means of both latent variables are 1, half a nat each. One action: L = 2, so 4 outputs.
    bias = params["encoder"]["params"]["Dense_1"]["bias"]
    assert bias.shape == (4,)
    params["encoder"]["params"]["Dense_1"]["bias"] = bias.at[:2].set(1.0)
    assert plan.loss(params, None, batch, jax.random.key(1)) == pytest.approx(squares + 3 * 0.5)


# Hopper: 2m + n = 25 inputs and 4n = 12 outputs of the encoder, 2m + 2n = 28 and 3 of the decoder.
@pytest.mark.parametrize(("large", "parameters"), [(True, 1_179_015), (False, 41_999)])
def test_the_networks_go_by_the_size_of_the_data(monkeypatch, large, parameters):
    assert cvae.LARGE_DATASET == 900_000
    monkeypatch.setattr(cvae, "LARGE_DATASET", 20 if large else 21)
    model = cvae.create(cvae.Config(), of_size(HOPPER, 20), HOPPER)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert count_parameters(params) == parameters


@pytest.fixture(scope="module")
def trained():
    config = cvae.Config(
        steps=1500,
        batch_size=64,
        learning_rate=3e-3,
        schedule="cosine",
        hidden_small=(32, 32),
        kl_weight=0.05,
        latent_limit=2.0,
    )
    return cvae.train(config, recorded(), TASK, keys=jax.random.split(jax.random.key(0), 2))


def test_samples_are_of_both_modes_and_go_by_their_states(trained):
    models, metrics = trained
    states, next_states = queries()
    for index, metric in enumerate(metrics):
        model = seeds.of_seed(models, index)
        actions = sample_actions(model, states, next_states, jax.random.key(1))[:, 0]
        off = actions - (2 + states[:, 0])
        assert 0.3 < (off > 0).mean() < 0.7
        assert 0.5 * ACTION < off[off > 0].mean() < 1.5 * ACTION
        assert -1.5 * ACTION < off[off < 0].mean() < -0.5 * ACTION
        assert np.polyfit(states[:, 0], actions, 1)[0] == pytest.approx(1, abs=0.25)
        # One bit is ln 2 nats, and both cannot be told apart for less.
        assert metric["held_out_kl"] > 0.5
        # Two draws of ±0.8 agree half of the time: an error of 1.6 in the other half.
        assert metric["held_out_mse"] == pytest.approx(0.5 * (2 * ACTION) ** 2, rel=0.4)


def test_samples_of_the_prior_are_clipped(trained):
    model = seeds.of_seed(trained[0], 0).replace(latent_limit=1e-6)
    first, second = (sample_actions(model, *queries(50), jax.random.key(i)) for i in range(2))
    np.testing.assert_allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_pairs_within_the_bounds(trained, rows):
    far = np.random.default_rng(0).normal(size=(rows, 1)).astype(np.float32) * 1e3
    actions = sample_actions(seeds.of_seed(trained[0], 0), far, -far, jax.random.key(0))
    assert actions.shape == (rows, 1)
    assert ((actions >= 0) & (actions <= 4)).all()


def test_seeds_together_are_seeds_alone():
    keys = jax.random.split(jax.random.key(0), 2)
    together, _ = cvae.train(TINY, recorded(200), TASK, keys=keys)
    alone, _ = cvae.train(TINY, recorded(200), TASK, keys=keys[1:])
    chex.assert_trees_all_close(seeds.of_seed(together, 1), seeds.of_seed(alone, 0), atol=5e-4)


def test_killed_and_resumed_it_is_the_same(tmp_path):
    keys = jax.random.split(jax.random.key(0), 2)
    train = partial(cvae.train, TINY, recorded(200), TASK, keys=keys)
    whole, _ = train()
    resumed, _ = resumed_after_a_kill(tmp_path, lambda callbacks: train(callbacks=callbacks))
    chex.assert_trees_all_equal(resumed.params, whole.params)
