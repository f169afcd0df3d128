"""The losses of the offline actor-critics, with constant networks and transitions by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.models import actor_critic, cql, iql, rebrac, td3_bc
from tskd_jax.policy import Bounds

TASK = Task("toy", "", 1, Bounds((-1.0,), (1.0,)), 10)
FIELDS = {"hidden": (4,), "discount": 0.9, "normalize": False}
ACTION = 0.25  # the actor's
CRITICS, TARGETS = (3.0, 5.0), (4.0, 2.0)  # Q and Q' of the twins; the target's minimum is 2
# An episode that the environment ends after one step, and one of two steps that is cut.
DATA = from_columns(
    observations=np.zeros((3, 1)),
    actions=np.array([[0.5], [-0.5], [0.75]]),
    rewards=np.array([1.0, 2.0, 4.0]),
    next_observations=np.zeros((3, 1)),
    terminals=np.array([True, False, False]),
    lengths=np.array([1, 2]),
)
# Q' counts in s' unless the environment ended there.
GOALS = np.array([1.0, 2 + 0.9 * 2, 4 + 0.9 * 2])
CRITIC_LOSS = sum(np.square(q - GOALS).mean() for q in CRITICS)
IMITATION = np.square(ACTION - DATA.actions).mean()


def constant(params, critics):
    """The same networks with these outputs for every input."""
    params = jax.tree.map(jnp.zeros_like, params)
    last = params["actor"]["params"]["Dense_1"]
    last["bias"] = last["bias"].at[0].set(jnp.arctanh(ACTION))
    params["critic"]["params"]["Dense_1"]["bias"] += jnp.array(critics)[:, None]
    return params


def loss_and_gradient(module, data=DATA, value=0.0, **fields):
    config = module.Config(**FIELDS | fields)
    plan = module.training(config, data, TASK, (0,))
    params, targets = (constant(plan.init(jax.random.key(0)), one) for one in (CRITICS, TARGETS))
    if "value" in params:
        params["value"]["params"]["Dense_1"]["bias"] += value
    batch = jax.tree.map(jnp.asarray, actor_critic.columns(config, data, TASK.bounds))
    return jax.value_and_grad(plan.loss)(params, targets, batch, jax.random.key(1))


def loss_of(module, data=DATA, value=0.0, **fields):
    return float(loss_and_gradient(module, data, value, **fields)[0])


def test_columns():
    """The last action of an episode has no next one, and only a terminal ends what follows."""
    batch = actor_critic.columns(td3_bc.Config(**FIELDS), DATA, TASK.bounds)
    np.testing.assert_array_equal(batch.goes_on, [0, 1, 1])
    np.testing.assert_array_equal(batch.has_next, [0, 1, 0])
    np.testing.assert_allclose(batch.next_actions[:, 0], [0, 0.75, 0])


def test_rewards_are_scaled_by_the_range_of_returns():
    """Returns of 1 and 6: rewards times 1000 / 5."""
    scaled = actor_critic.columns(td3_bc.Config(**FIELDS, scale_rewards=True), DATA, TASK.bounds)
    np.testing.assert_allclose(scaled.rewards, [200, 400, 800], rtol=1e-6)


@pytest.mark.parametrize("unordered", [False, True])
def test_without_a_range_of_returns_nothing_is_scaled_by_it(unordered):
    """Two episodes of equal return, or rows that are episodes each: one line says so."""
    rewards = [1.0, 2.0, 3.0] if unordered else [3.0, 1.0, 2.0]
    data = DATA.replace(rewards=np.asarray(rewards, np.float32))
    if unordered:
        data = data.replace(lengths=np.ones(3, int))
    config = iql.Config(**FIELDS, scale_rewards=True, steps=1)
    columns = actor_critic.columns(config, data, TASK.bounds)
    np.testing.assert_array_equal(columns.rewards, rewards)
    with pytest.raises(ConfigError, match=r"set --config\.iql\.scale_rewards=False"):
        iql.train(config, data, TASK, (0,))


def test_td3_bc():
    found = loss_of(td3_bc, noise=0.0, weight=2.5)
    # λ = α / mean |Q|, so that λ · mean Q is α.
    assert found == pytest.approx(CRITIC_LOSS + IMITATION - 2.5, rel=1e-5)


def test_rebrac():
    # Only the first step of the second episode has a next action, of which π(s') is 0.5 off.
    goals = GOALS - 0.9 * 0.4 * np.array([0, 0.5**2, 0])
    critic_loss = sum(np.square(q - goals).mean() for q in CRITICS)
    # Q beside imitation is divided by its own mean.
    found = loss_of(rebrac, noise=0.0, critic_weight=0.4, actor_weight=0.1)
    assert found == pytest.approx(critic_loss + 0.1 * IMITATION - 1, rel=1e-5)


def test_iql():
    # V = 1.5 is 0.5 below the targets' smaller Q, and is what counts in s'.
    goals = np.array([1.0, 2 + 0.9 * 1.5, 4 + 0.9 * 1.5])
    critic_loss = sum(np.square(q - goals).mean() for q in CRITICS)
    log_deviation = -1.5  # in the middle of its range
    off = (DATA.actions - ACTION) / np.exp(log_deviation)
    log_density = -(0.5 * np.square(off) + log_deviation).mean()
    expected = 0.7 * 0.25 + critic_loss - np.exp(3 * 0.5) * log_density
    found = loss_of(iql, value=1.5, expectile=0.7, temperature=3.0)
    assert found == pytest.approx(expected, rel=1e-5)


def test_cql_goes_on_from_a_cut_and_not_from_an_end():
    """What else is in its loss is the same for the same draws."""
    ended = DATA.replace(terminals=np.ones(3, bool))
    without = sum(np.square(q - DATA.rewards).mean() for q in CRITICS)
    difference = loss_of(cql, actions=3) - loss_of(cql, ended, actions=3)
    assert difference == pytest.approx(CRITIC_LOSS - without, rel=1e-4)


def test_cql(monkeypatch):
    """Without noise every drawn action is the actor's mean, or 0 with the uniform density 1/2."""
    monkeypatch.setattr(jax.random, "normal", lambda _key, shape: jnp.zeros(shape))
    monkeypatch.setattr(jax.random, "uniform", lambda _key, shape, **_range: jnp.zeros(shape))
    found, gradient = loss_and_gradient(cql, actions=3, weight=5.0, threshold=10.0)
    # N(0; 0, 1), and the density of tanh.
    log_density = -0.5 * np.log(2 * np.pi) - np.log(1 - ACTION**2)
    # Q is the same everywhere. Three actions are drawn in s, three in s' and three uniformly.
    gap = np.log(6 * np.exp(-log_density) + 3 * 2)
    pressed = 5.0 * (gap - 10.0)
    actor, temperature = log_density - min(CRITICS), -(log_density - 1)
    # Each critic is pressed with α = 1, and α is trained by their mean.
    expected = CRITIC_LOSS + 2 * pressed - pressed + actor + temperature
    assert found == pytest.approx(expected, rel=1e-5)
    # The gap is below the threshold: descent makes α smaller.
    assert gradient["log_multiplier"] == pytest.approx(-pressed, rel=1e-5)
    assert gradient["log_temperature"] == pytest.approx(temperature, rel=1e-5)
    # Only the entropy moves the actor: its mean to 0, and its deviation up.
    of_actor = gradient["actor"]["params"]["Dense_1"]["bias"]
    np.testing.assert_allclose(of_actor, [2 * ACTION, -1.0], rtol=1e-5)
