"""Decision Diffuser: DDR-I's tokens without the reward, and a planner that does as it is asked."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from line_world import TASK, play, recorded
from models.two_modes import resumed_after_a_kill

from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import Actor
from tskd_jax.models import inverse_dynamics
from tskd_jax.run.serialization import fingerprint, flatten, restore
from tskd_jax.teacher import planning, state_generator, trajectory_generator
from tskd_jax.teacher.planner import PlanningActor
from tskd_jax.training import seeds

SMALL = state_generator.Config(
    features=16,
    multipliers=(1,),
    kernel_size=3,
    horizon=4,
    diffusion_steps=20,
    prediction="velocity",
    normalizer="limits",
    steps=600,
    batch_size=64,
    accumulate=1,
    learning_rate=3e-3,
    sampler="ddim",
    sampling_steps=5,
    guidance=1.5,
)
KEYS = jax.random.split(jax.random.key(0), 2)


def fitted_actors(config, data, task, keys):
    """An actor for each key."""
    generator = config.generator()
    model, _ = trajectory_generator.train(generator, data, None, None, keys=keys)
    few = inverse_dynamics.Config(steps=300, hidden=(16,), learning_rate=3e-3)
    inverse, _ = inverse_dynamics.train(few, data, task, keys=keys)
    return [
        PlanningActor(
            seeds.of_seed(model, index), seeds.of_seed(inverse, index), key, config.sampling()
        )
        for index, key in enumerate(keys)
    ]


@pytest.fixture(scope="module")
def actors():
    return fitted_actors(SMALL, recorded(), TASK, KEYS)


@pytest.mark.slow
def test_it_goes_where_returns_are_high_and_imitation_stands_still(actors):
    assert abs(recorded().actions.mean()) < 0.05  # what a regression would do
    for actor in actors:
        good = play(actor.start())
        assert good.mean() > 0.5
        # Asked for what the worst episodes reach, it does as they do.
        asked = dataclasses.replace(actor.sampling, target_return=-0.9)
        bad = play(actor.replace(sampling=asked).start())
        assert bad.mean() < -0.5


@pytest.mark.slow
@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    generator = dataclasses.replace(SMALL, steps=12).generator()

    def train(callbacks=None):
        model, _ = trajectory_generator.train(
            generator, recorded(), None, None, keys=KEYS, callbacks=callbacks
        )
        return model.params

    chex.assert_trees_all_equal(resumed_after_a_kill(tmp_path, train), train())


def test_an_actor_starts_anew_and_each_has_plans_of_its_own(actors):
    one, other = actors
    assert isinstance(one, Actor)
    np.testing.assert_array_equal(play(one.start()), play(one.start()))
    assert np.abs(play(one.start()) - play(other.start())).max() > 1e-3
    act = one.start()
    first = play(act)
    np.testing.assert_array_equal(play(act), first)  # time 0 begins new episodes


def test_an_actor_is_kept_as_a_result(actors):
    again = restore(*flatten(actors))
    assert fingerprint(again) == fingerprint(actors)
    np.testing.assert_array_equal(play(again[1].start()), play(actors[1].start()))


def test_tokens_are_states_and_the_next_one_is_read_behind_the_present(actors):
    model = actors[0].model
    assert model.token_size == 1
    assert trajectory_generator.token_size(trajectory_generator.Config(), 1) == 2
    is_state, is_reward, is_level = trajectory_generator.token_parts(model.config, 1)
    assert is_state.all()
    assert not is_reward.any()
    assert not is_level.any()
    present = jnp.array([[[-0.3]], [[0.2]]])
    whole = planning.plan(model, actors[0].sampling, present, jnp.int32(1), KEYS)
    assert whole.states.shape == (2, 4, 1)
    # The observed state is a part of the plan, unchanged; no reward is planned.
    np.testing.assert_array_equal(whole.states[:, 0], present[:, 0])
    assert not whole.rewards.any()
    _, following = whole.next_steps(jnp.int32(1), 1)
    np.testing.assert_array_equal(following[:, 0], whole.states[:, 1])


def test_the_loss_is_of_states_that_exist_and_are_not_observed(monkeypatch):
    seen = {}
    monkeypatch.setattr(
        trajectory_generator,
        "diffusion_loss",
        lambda net, params, schedule, x0, y, **kw: seen.update(kw, x0=x0, y=y),
    )
    config = dataclasses.replace(SMALL, target_weight=5.0, return_scale=2.0, discount=1.0)
    data = recorded()
    plan, _ = trajectory_generator.training(
        config.generator(), data, None, None, jax.random.key(0)[None]
    )
    *_, buffer, coordinates = plan.data
    of_one = buffer.replace(labels=buffer.labels[0]), seeds.of_seed(coordinates, 0)
    # The first transition of the first episode, and its last but one.
    plan.loss(None, None, (jnp.array([0, 10]), *of_one), jax.random.key(1))
    assert seen["x0"].shape == (2, 4, 1)
    np.testing.assert_array_equal(seen["known"][..., 0], [[1, 0, 0, 0]] * 2)
    np.testing.assert_array_equal(seen["weight"][..., 0], [[1, 5, 1, 1], [1, 5, 1, 0]])
    returns = data.rewards[:12].sum() / 2, data.rewards[10:12].sum() / 2
    np.testing.assert_allclose(seen["y"], returns, rtol=1e-5)


def test_published_settings():
    published = state_generator.Config()
    generator, sampling = published.generator(), published.sampling()
    assert (generator.horizon, generator.context, generator.diffusion_steps) == (100, 1, 200)
    assert (generator.batch_size, generator.accumulate, generator.learning_rate) == (32, 2, 2e-4)
    assert (generator.normalizer, generator.discount) == ("cdf", 0.99)
    assert generator.termination_penalty == 100
    assert (sampling.sampler, sampling.steps, sampling.guidance) == ("ancestral", 200, 1.2)
    assert (sampling.target_return, sampling.temperature) == (0.9, 0.5)


def test_golden_parameter_count():
    # The U-Net over hopper's 11 numbers (tests/nn/test_unet.py) and f of 2×512, as in Table 3.
    task, config = get_task("hopper"), state_generator.Config()
    states = np.random.default_rng(0).normal(size=(20, task.state_size))
    data = from_columns(
        observations=states,
        actions=np.zeros((20, task.action_size)),
        rewards=np.ones(20),
        next_observations=states,
        terminals=np.zeros(20, bool),
        lengths=[20],
    )
    model = trajectory_generator.create(config.generator(), data, None, np.ones((1, data.size)))
    inverse = inverse_dynamics.create(inverse_dynamics.Config(), data, task)
    model, inverse = (
        part.replace(params=jax.eval_shape(part.init, KEYS[0])) for part in (model, inverse)
    )
    actor = PlanningActor(model, inverse, KEYS[0], config.sampling())
    assert actor.parameters == 59_732_491 + 275_971


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"horizon": 3, "context": 3}, "at least 4"),
        ({"sampling_steps": 201}, r"sampling_steps=201.*diffusion_steps=200"),
        ({"sampling_steps": 150, "start": 0.5}, "101 noise levels"),
        ({"sampling_steps": 20}, r"decision_diffuser\.sampler='ancestral'"),
    ],
)
def test_contradictions(changes, words):
    config = dataclasses.replace(state_generator.Config(), **changes)
    problem, *_ = state_generator.contradictions(config)
    assert re.search(words, problem)
    assert not list(state_generator.contradictions(state_generator.Config()))
