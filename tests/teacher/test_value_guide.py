"""Diffuser: windows of states and actions, the value of a plan, and plans that climb it."""

import dataclasses
from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from line_world import TASK, play, recorded
from models.two_modes import resumed_after_a_kill

from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.simulator import Actor
from tskd_jax.fields import restrict
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.nn.unet import TemporalUNet, TemporalValue
from tskd_jax.run.serialization import fingerprint, flatten, restore
from tskd_jax.teacher import guided_planner, joint_config, joint_diffuser, value_guide
from tskd_jax.teacher.guided_planner import Candidates, GuidedActor
from tskd_jax.teacher.joint_config import ModelConfig, PlanningConfig, WindowConfig
from tskd_jax.training import seeds

NETWORK = {
    "features": 16,
    "multipliers": (1,),
    "kernel_size": 3,
    "batch_size": 64,
    "accumulate": 1,
    "learning_rate": 3e-3,
}
SMALL = joint_config.Config(
    **NETWORK, steps=600, horizon=4, prediction="velocity", normalizer="limits", plans=8
)
VALUE = value_guide.Config(**NETWORK, steps=300, termination_penalty=0.0)
KEYS = jax.random.split(jax.random.key(0), 2)


@pytest.fixture(scope="module")
def actors():
    data = recorded()
    value, _ = value_guide.train(VALUE, restrict(SMALL, WindowConfig), data, keys=KEYS)
    model, _ = joint_diffuser.train(restrict(SMALL, ModelConfig), data, keys=KEYS)
    planning = dataclasses.replace(restrict(SMALL, PlanningConfig), guide_scale=1.0)
    return [
        GuidedActor(*seeds.of_seed((model, value), index), key, TASK.bounds, planning)
        for index, key in enumerate(KEYS)
    ]


def on_device(actor):
    """As a program has it: outside of one, a network takes no arrays of the host."""
    return jax.tree.map(jnp.asarray, actor)


def planning_as(actor, **changes):
    return actor.replace(planning=dataclasses.replace(actor.planning, **changes))


# --- Acting -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_guide_goes_where_returns_are_high_and_a_plan_alone_goes_anywhere(actors):
    for actor in actors:
        # One plan, unguided, is a draw of what was recorded: of both ways, in even shares.
        alone = play(planning_as(actor, guide_scale=0.0, plans=1).start(), episodes=100, steps=1)
        assert abs(alone.mean()) < 0.3
        guided = play(planning_as(actor, plans=1).start(), episodes=100, steps=1)
        assert guided.mean() > alone.mean() + 0.3
        # And the best of eight guided ones goes right.
        assert play(actor.start()).mean() > 0.5


@pytest.mark.slow
def test_an_actor_starts_anew_each_has_plans_of_its_own_and_it_is_kept(actors):
    one, other = actors
    assert isinstance(one, Actor)
    np.testing.assert_array_equal(play(one.start()), play(one.start()))
    assert np.abs(play(one.start()) - play(other.start())).max() > 1e-3
    again = restore(*flatten(actors))
    assert fingerprint(again) == fingerprint(actors)
    np.testing.assert_array_equal(play(again[0].start()), play(one.start()))


@pytest.mark.slow
def test_a_plan_begins_with_the_present_and_its_value_is_that_of_its_tokens(actors):
    actor = on_device(actors[0])
    present = jnp.array([[-0.3], [0.2]])
    found = guided_planner.plan(actor.model, actor.value, actor.planning, present, KEYS)
    assert found.tokens.shape == (2, 8, 4, 2)
    np.testing.assert_array_equal(found.tokens[:, :, 0, 0], jnp.tile(present, (1, 8)))
    flat = found.tokens.reshape(16, 4, 2)
    worth = actor.value(flat, jnp.zeros(16, jnp.int32)).reshape(2, 8)
    np.testing.assert_allclose(found.values, worth, atol=1e-4)
    # Plans of one state are draws of their own, and those of a state do not depend on the others.
    assert np.ptp(found.tokens[0, :, 0, 1]) > 1e-3
    alone = guided_planner.plan(actor.model, actor.value, actor.planning, present[1:], KEYS[1:])
    np.testing.assert_allclose(alone.tokens[0], found.tokens[1], atol=1e-4)


def test_the_best_is_the_one_of_the_highest_value():
    tokens = jnp.arange(12.0).reshape(2, 3, 2, 1)
    found = Candidates(tokens, jnp.array([[0.0, 5.0, 1.0], [2.0, -1.0, 1.0]])).best()
    np.testing.assert_array_equal(found[:, 0, 0], [2, 6])


def test_actions_are_within_their_bounds(actors):
    actor = actors[0].replace(bounds=dataclasses.replace(TASK.bounds, high=(0.1,)))
    assert play(actor.start()).max() == pytest.approx(0.1)


# --- The value ----------------------------------------------------------------------------------


def test_climbing_by_hand():
    """J = -(x - 1)² / 2: each step of α Σ = 0.5 halves the way to 1; what is known stays 0."""
    known = jnp.array([[[True], [False]]])
    planning = PlanningConfig(guide_scale=2.0, guide_steps=2, unguided_steps=2)
    seen = []

    def value(x, step):
        seen.append(step)
        return -jnp.square(x - 1).sum((1, 2)) / 2

    guide = value_guide.climb(value, planning, known, jnp.zeros((1, 2, 1)))
    mean, variance = jnp.full((1, 2, 1), -1.0), jnp.float32(0.25)
    moved = guide(mean, jnp.array([1]), variance)
    # -1, then 0, then 0.5; the known entry begins each step at 0, and the sampler writes it anew.
    np.testing.assert_allclose(moved[0, :, 0], [0.5, 0.5])
    assert len(seen) == 2
    # The means of steps 0 and -1 are those of the last two reverse steps, k = 1 and k = 0.
    for step in (0, -1):
        np.testing.assert_array_equal(guide(mean, jnp.array([step]), variance), mean)


@pytest.mark.slow
def test_the_value_tells_good_plans_from_bad_ones(actors):
    # Normalised tokens (state, action): the same states, actions to the right or to the left.
    ways = jnp.array([[[0.3, 0.8]], [[-0.3, -0.8]]])
    plans = jnp.broadcast_to(ways, (2, 4, 2)).at[:, 0, 0].set(0.0)
    for actor in map(on_device, actors):
        for step in (0, 10):
            right, left = actor.value(plans, jnp.full(2, step))
            assert right > left + 3  # episodes differ by up to 16


def test_the_value_is_of_the_penalised_discounted_return():
    data = recorded(episodes=2, steps=3)
    data = data.replace(terminals=np.array([0, 0, 0, 0, 0, 1], bool))
    config = dataclasses.replace(VALUE, discount=0.5, termination_penalty=8.0)
    plan, _ = value_guide.training(config, restrict(SMALL, WindowConfig), data, KEYS)
    _, buffer = plan.data
    first, second = data.rewards.reshape(2, 3) - np.array([[0, 0, 0], [0, 0, 8.0]])
    expected = [r[0] + r[1] / 2 + r[2] / 4 for r in (first, second)]
    np.testing.assert_allclose(buffer.steps.labels[jnp.array([0, 3])], expected, rtol=1e-4)


# --- Windows and loss ---------------------------------------------------------------------------


def counted():
    """Two episodes of 3 and 1 steps: state (e, t), action 10 e + t."""
    episode, time = np.array([0, 0, 0, 1]), np.array([0, 1, 2, 0])
    states = np.stack([episode, time], 1).astype(float)
    return from_columns(
        observations=states,
        actions=(10 * episode + time)[:, None],
        rewards=time,
        next_observations=states + np.array([0, 1]),
        terminals=np.zeros(4, bool),
        lengths=[3, 1],
    )


def test_windows_by_hand():
    data = counted()
    scales = joint_diffuser.fit_scales("gaussian", data)
    buffer = joint_diffuser.make_joint_buffer(data, scales, np.arange(4.0))
    w = joint_diffuser.joint_window(buffer, jnp.array([1, 3]), 4)
    states = scales.states.unnormalize(w.tokens[..., :2])
    actions = scales.actions.unnormalize(w.tokens[..., 2:])[..., 0]
    # The first begins at t = 1 of 3 steps: states 1, 2, 3, and actions 1, 2.
    np.testing.assert_allclose(states[0, :, 1], [1, 2, 3, 3], atol=1e-5)
    np.testing.assert_allclose(actions[0, :2], [1, 2], atol=1e-5)
    np.testing.assert_allclose(states[1], [[1, 0], [1, 1], [1, 1], [1, 1]], atol=1e-5)
    np.testing.assert_allclose(actions[1, :1], [10], atol=1e-5)
    np.testing.assert_array_equal(w.exists[..., 0], [[1, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(w.exists[..., 2], [[1, 1, 0, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(w.labels, [1, 3])


def test_what_is_known_and_what_counts_by_hand(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        joint_diffuser,
        "diffusion_loss",
        lambda net, params, schedule, x0, y, **kw: seen.update(kw, x0=x0),
    )
    config = dataclasses.replace(restrict(SMALL, ModelConfig), action_weight=5.0)
    plan, _ = joint_diffuser.training(config, counted(), KEYS)
    _, buffer = plan.data
    plan.loss(None, None, (jnp.array([1]), buffer), KEYS[0])
    known, weight = np.asarray(seen["known"][0]), np.asarray(seen["weight"][0])
    np.testing.assert_array_equal(known[:, 0], [1, 0, 0, 0])
    assert not known[:, 2].any()
    np.testing.assert_array_equal(weight[:, 2], [5, 1, 0, 0])
    np.testing.assert_array_equal(weight[:, 0], [1, 1, 1, 0])
    assert seen["drop_condition"] == 0


# --- Published settings -------------------------------------------------------------------------


def residual(size_in, size_out, time=32):
    """Numbers of a block: two conv5 with norms, the step's dense layer, and a skip if need be."""
    convolutions = (5 * size_in + 1) * size_out + (5 * size_out + 1) * size_out
    norms, dense = 4 * size_out, (time + 1) * size_out
    skip = (size_in + 1) * size_out if size_in != size_out else 0
    return convolutions + norms + dense + skip


def test_golden_parameter_counts():
    """Hopper: tokens of 11 + 3. 3.96 M is what the authors' code prints; Table 1 says 2.18 M."""
    widths = [14, 32, 64, 128, 256]
    time = 33 * 128 + 129 * 32
    down = sum(residual(a, b) + residual(b, b) for a, b in pairwise(widths))
    down += sum((3 * n + 1) * n for n in widths[1:-1]) + 2 * residual(256, 256)
    up = sum(residual(2 * b, a) + residual(a, a) + (4 * a + 1) * a for a, b in pairwise(widths[1:]))
    out = (5 * 32 + 1) * 32 + 2 * 32 + 33 * 14
    x, step = jnp.zeros((1, 32, 14)), jnp.zeros(1, jnp.int32)
    config = joint_config.Config()
    network = TemporalUNet(config.features, config.multipliers, config.kernel_size)
    shapes = jax.eval_shape(network.init, KEYS[0], x, step)
    assert count_parameters(shapes) == time + down + up + out == 3_956_302
    # Half of it, and a layer on 4 times 256 channels and the step's embedding.
    shapes = jax.eval_shape(TemporalValue().init, KEYS[0], x, step)
    assert count_parameters(shapes) == time + down + 4 * 256 + 32 + 1 == 3_009_089


@pytest.mark.slow
@pytest.mark.parametrize("part", ["value", "diffuser"])
def test_a_killed_training_goes_on_to_the_same_bits(part, tmp_path):
    value, model = (dataclasses.replace(config, steps=12) for config in (VALUE, SMALL))

    def train(callbacks=None):
        common = {"keys": KEYS, "callbacks": callbacks}
        if part == "value":
            windows = restrict(model, WindowConfig)
            return value_guide.train(value, windows, recorded(), **common)[0].params
        return joint_diffuser.train(restrict(model, ModelConfig), recorded(), **common)[0].params

    chex.assert_trees_all_equal(resumed_after_a_kill(tmp_path, train), train())


def test_published_settings():
    config, value = joint_config.Config(), value_guide.Config()
    assert (config.horizon, config.diffusion_steps, config.plans) == (32, 20, 64)
    assert config.prediction == "signal"
    assert (config.guide_scale, config.guide_steps, config.unguided_steps) == (0.1, 2, 2)
    for network in (config, value):
        assert (network.features, network.multipliers) == (32, (1, 2, 4, 8))
        assert (network.batch_size, network.learning_rate) == (32, 2e-4)
        assert network.ema_decay == 0.995
    assert (config.steps, value.steps, value.discount) == (1_000_000, 200_000, 0.997)


def test_contradictions():
    config = dataclasses.replace(joint_config.Config(), unguided_steps=20)
    (problem,) = joint_config.contradictions(config)
    assert "diffusion_steps=20" in problem
    assert not list(joint_config.contradictions(joint_config.Config()))
