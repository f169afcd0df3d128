"""The offline actor-critics: their formulas by hand, and a task on which imitation fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.machine.platform import lowering_for
from tskd_jax.models import cql, iql, rebrac, td3_bc
from tskd_jax.policy import Bounds
from tskd_jax.training import optimizers
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.training import adam

TASK = Task("toy", "", 1, Bounds((0.0,), (4.0,)), 10)
SMALL = {"hidden": (32, 32), "batch_size": 64, "learning_rate": 1e-3}


def test_the_expectile_loss_by_hand():
    found = iql.expectile_loss(jnp.array([-2.0, 0.0, 3.0]), 0.7)
    np.testing.assert_allclose(found, [0.3 * 4, 0.0, 0.7 * 9], rtol=1e-6)


def test_the_minimum_of_the_expectile_loss_is_the_expectile():
    """Of 0 and 1 in even shares the τ-expectile is τ."""
    values = jnp.linspace(0, 1, 1001)[:, None]
    losses = iql.expectile_loss(jnp.array([[0.0, 1.0]]) - values, 0.9).mean(1)
    assert float(values[losses.argmin(), 0]) == pytest.approx(0.9, abs=1e-3)


def test_advantage_weights_by_hand():
    found = iql.advantage_weights(jnp.array([0.0, 1.0, 10.0]), 3.0)
    np.testing.assert_allclose(found, [1.0, np.exp(3.0), 100.0], rtol=1e-6)


def test_the_conservative_gap_of_two_actions():
    """Drawn evenly of two actions, log Σ exp Q is that of both, whatever is drawn how often."""
    q = jnp.array([1.0, 3.0])
    drawn = jnp.tile(q, 2)[None, None]
    log_density = jnp.full((1, 4), np.log(0.5)) + np.log(4)  # the mean over what was drawn
    gap = cql.conservative_gap(drawn, log_density, jnp.array([[3.0]]))
    expected = np.log(np.exp(1.0) + np.exp(3.0)) - 3.0
    np.testing.assert_allclose(gap, [[expected]], rtol=1e-5)


def bandit(rows: int = 2000) -> Trajectories:
    """One step from a state: the reward is highest at action 3, what was done lies around 2."""
    rng = np.random.default_rng(0)
    states = rng.uniform(-1, 1, (rows, 1))
    actions = np.clip(rng.normal(2.0, 0.7, (rows, 1)), 0, 4)
    return from_columns(
        observations=states,
        actions=actions,
        rewards=-np.square(actions[:, 0] - 3.0),
        next_observations=states,
        terminals=np.ones(rows, bool),
        lengths=np.ones(rows, int),
    )


def test_the_loss_of_cql_in_pieces_is_that_of_the_whole_batch():
    plan = cql.training(cql.Config(**SMALL), bandit(200), TASK, (0,))
    params, key = plan.init(jax.random.key(1)), jax.random.key(2)
    # As `fit` does: the data are an argument of the traced draw.
    batch, found = jax.jit(plan.draw)(plan.data, key), {}
    for platform in ("cpu", "gpu"):  # four pieces, one piece
        with lowering_for(platform):
            found[platform] = jax.value_and_grad(plan.loss)(params, params, batch, key)
    jax.tree.map(
        lambda ours, whole: np.testing.assert_allclose(ours, whole, rtol=1e-4, atol=1e-5),
        found["cpu"],
        found["gpu"],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "fields"),
    [
        (iql, {"steps": 1500, "temperature": 10.0}),
        (td3_bc, {"steps": 1500, "weight": 10.0, "actor_learning_rate": 1e-3}),
        (rebrac, {"steps": 1500, "actor_weight": 0.1}),
        (cql, {"steps": 600, "weight": 0.1, "actor_learning_rate": 1e-3}),
    ],
)
def test_it_acts_better_than_what_it_saw(module, fields):
    data = bandit()
    policies, _ = module.train(module.Config(**SMALL | fields), data, TASK, (0, 1))
    states = np.linspace(-1, 1, 50, dtype=np.float32)[:, None]
    assert len(policies) == 2
    for policy in policies:
        actions = policy(states)
        assert abs(actions.mean() - 3.0) < 0.45 < abs(data.actions.mean() - 3.0)
        assert ((actions >= 0) & (actions <= 4)).all()


def test_seeds_together_are_seeds_alone():
    data, config = bandit(200), iql.Config(**SMALL, steps=20)
    together, _ = iql.train(config, data, TASK, (3, 4))
    ((alone,), _) = iql.train(config, data, TASK, (4,))
    for ours, theirs in zip(together[1].weights, alone.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_delayed_part_rests_between_its_updates():
    inner = adam(0.1, "constant", 0)
    optimizer = optimizers.delayed(2, inner)
    params, grads = {"w": jnp.ones(3)}, {"w": jnp.full(3, 0.5)}
    state, moved = optimizer.init(params), []
    for _ in range(4):
        updates, state = optimizer.update(grads, state, params)
        moved.append(bool((updates["w"] != 0).any()))
    assert moved == [False, True, False, True]
    # As the inner optimizer after two updates of its own.
    expected = inner.init(params)
    for _ in range(2):
        _, expected = inner.update(grads, expected, params)
    jax.tree.map(np.testing.assert_array_equal, state[1], expected)


class Killed(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("module", [iql, td3_bc, rebrac, cql])
def test_killed_it_goes_on_to_the_same_bits(module):
    """The delayed optimizers count, too, in what is saved."""
    data, states = bandit(100), []
    config = module.Config(**SMALL | {"batch_size": 8}, steps=12)

    def save(state):
        if int(state.step) > 2:
            states.append(jax.tree.map(jnp.copy, state))
            raise Killed

    whole, _ = module.train(config, data, TASK, (0, 1))
    with pytest.raises(Killed):
        module.train(config, data, TASK, (0, 1), callbacks=TrainingCallbacks(save=save))
    assert 2 < int(states[0].step) < 12
    restored = TrainingCallbacks(restore=lambda _fresh: states[0])
    again, _ = module.train(config, data, TASK, (0, 1), callbacks=restored)
    for one, other in zip(whole, again, strict=True):
        for ours, theirs in zip(one.weights, other.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
