"""The WGAN of rewards: its losses and sizes by hand, and two modes that no mean would hit."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.two_modes import HOPPER, REWARD, TASK, of_size, queries, recorded, resumed_after_a_kill

from tskd_jax.models import wgan
from tskd_jax.models.wgan import sample_rewards
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.training import seeds

TINY = wgan.Config(steps=20, batch_size=32, learning_rate=1e-2, hidden=(16,))


def test_the_losses_by_hand():
    """Linear networks: a score is twice the reward, and every generated reward is 1."""
    config = wgan.Config(hidden=(), penalty=0.25)
    plan, _ = wgan.training(config, recorded(50), TASK, jax.random.key(0)[None])
    params = jax.tree.map(jnp.zeros_like, plan.init(jax.random.key(0)))
    critic = params["critic"]["params"]["Dense_0"]
    # s, its change, a, and last the reward.
    assert critic["kernel"].shape == (4, 1)
    critic["kernel"] = critic["kernel"].at[-1].set(2.0)
    params["generator"]["params"]["Dense_0"]["bias"] = jnp.ones(1)
    states, rewards = jnp.zeros((2, 1)), jnp.array([[3.0], [1.0]])
    batch = states, states, states, rewards
    loss, gradients = jax.value_and_grad(plan.loss)(params, None, batch, jax.random.key(1))
    # Generated 2 · 1, recorded 2 · 2, and ¼ of 2².
    assert loss == pytest.approx(2 - 4 + 1)
    of_critic = gradients["critic"]["params"]["Dense_0"]
    assert of_critic["kernel"][-1, 0] == pytest.approx(1 - 2 + 0.25 * 2 * 2)
    assert of_critic["bias"][0] == 0  # what it adds to all scores is nobody's gain
    # The generator rises in score alone: the critic's loss, which falls with it, does not count.
    assert gradients["generator"]["params"]["Dense_0"]["bias"][0] == pytest.approx(-2)


def test_parameters_of_the_networks():
    # Hopper: s, its change and a are 25 numbers, beside 2 of noise or the reward.
    model = wgan.create(wgan.Config(), of_size(HOPPER), HOPPER)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert count_parameters(params["generator"]) == 277_505
    assert count_parameters(params["critic"]) == 276_993


def test_the_generator_moves_at_each_fifth_update():
    keys = jax.random.key(0)[None]
    after = {
        steps: wgan.train(wgan.Config(hidden=(8,), steps=steps), recorded(50), TASK, keys=keys)[0]
        for steps in (1, 4, 5, 9)
    }
    chex.assert_trees_all_equal(after[1].params, after[4].params)
    chex.assert_trees_all_equal(after[5].params, after[9].params)
    kernels = [after[steps].params["generator"]["params"]["Dense_1"]["kernel"] for steps in (4, 5)]
    # Adam's first step is its rate, whatever the gradient.
    assert np.abs(kernels[1] - kernels[0]).max() == pytest.approx(1e-4, rel=0.01)


@pytest.fixture(scope="module")
def trained():
    config = wgan.Config(
        steps=3000,
        batch_size=64,
        learning_rate=1e-3,
        schedule="cosine",
        hidden=(32, 32),
        penalty=3e-3,
    )
    return wgan.train(config, recorded(), TASK, keys=jax.random.split(jax.random.key(0), 2))


def test_samples_are_of_both_modes_and_go_by_their_actions(trained):
    models, metrics = trained
    fresh = recorded(seed=1)
    transitions = fresh.observations, fresh.actions, fresh.next_observations
    common = 5 + 2 * fresh.actions[:, 0]
    for index, metric in enumerate(metrics):
        model = seeds.of_seed(models, index)
        rewards = sample_rewards(model, *transitions, jax.random.key(1))
        off = rewards - common
        assert 0.2 < (off > 0).mean() < 0.8
        # Two modes, where a mean would be at 0; how far out depends on the rounding of each JAX.
        assert 0.4 * REWARD < off[off > 0].mean() < 2.5 * REWARD
        assert -2.5 * REWARD < off[off < 0].mean() < -0.4 * REWARD
        # It should be 2; few updates of an adversarial game are no regression.
        assert 0.5 < np.polyfit(fresh.actions[:, 0], rewards, 1)[0] < 3
        assert set(models.params) == {"generator"}
        # What is drawn goes with what was recorded no further than by what both have in common.
        apart = np.square(off).mean() + REWARD**2
        assert metric["held_out_mse"] == pytest.approx(apart, rel=0.3)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_any_number_of_transitions(trained, rows):
    states, next_states = queries(rows)
    rewards = sample_rewards(
        seeds.of_seed(trained[0], 0), states, states, next_states, jax.random.key(0)
    )
    assert rewards.shape == (rows,)


def test_rewards_that_are_all_equal():
    data = recorded(100)
    data = data.replace(rewards=np.full_like(data.rewards, 7.0))
    model, (metrics,) = wgan.train(TINY, data, TASK, keys=jax.random.key(0)[None])
    assert model.reward_deviation == 1
    assert np.isfinite(metrics["held_out_mse"])


def test_seeds_together_are_seeds_alone():
    keys = jax.random.split(jax.random.key(0), 2)
    together, _ = wgan.train(TINY, recorded(200), TASK, keys=keys)
    alone, _ = wgan.train(TINY, recorded(200), TASK, keys=keys[1:])
    chex.assert_trees_all_close(seeds.of_seed(together, 1), seeds.of_seed(alone, 0), atol=1e-4)


def test_killed_and_resumed_it_is_the_same(tmp_path):
    """Not only the weights go on, but also where the five updates stand."""
    keys = jax.random.split(jax.random.key(0), 2)
    train = partial(wgan.train, TINY, recorded(200), TASK, keys=keys)
    whole, _ = train()
    resumed, _ = resumed_after_a_kill(tmp_path, lambda callbacks: train(callbacks=callbacks))
    chex.assert_trees_all_equal(resumed.params, whole.params)
