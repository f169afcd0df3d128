"""Imagination in the learned world: what happens is what it answers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from soundness import assert_sound

from tskd_jax.models import world as forward
from tskd_jax.models.inverse_dynamics import actions_between
from tskd_jax.policy import Bounds
from tskd_jax.teacher.grounding import Grounding
from tskd_jax.training import seeds


@pytest.fixture(scope="module")
def world(tiny_trajectories):
    """Forward models that have learnt a little, and do not mind that they disagree."""
    config = forward.Config(steps=100, batch_size=32, hidden=(8,), members=2)
    trained, _ = forward.train(config, tiny_trajectories, keys=jax.random.key(1)[None])
    return trained.replace(doubt=np.full(1, np.inf, np.float32))


def said(world, data):
    """What each member says of that data: (N, members, m), (N, members)."""
    return forward.predictions(seeds.of_seed(world, 0), data.observations, data.actions)


@pytest.mark.parametrize("replan_every", [1, 3])
def test_grounded_each_step_is_what_the_world_answers(run, world, task, starts, replan_every):
    # Where this world leads is not that high.
    task = dataclasses.replace(task, alive=lambda states: states[..., 2] < 0.4)
    grounded = run(world=world, task=task, replan_every=replan_every)
    assert_sound(grounded, starts, task)
    assert np.ptp(grounded.lengths) > 0
    next_states, rewards = said(world, grounded)
    np.testing.assert_allclose(next_states.mean(1), grounded.next_observations, atol=1e-5)
    np.testing.assert_allclose(rewards.mean(1), grounded.rewards, atol=1e-5)


def test_a_random_member_answers_each_step(run, world, task, starts):
    grounded = run(world=world, random_member=True, replan_every=3)
    assert_sound(grounded, starts, task)
    next_states, rewards = said(world, grounded)
    off = np.abs(next_states - grounded.next_observations[:, None]).max(-1)
    off = np.maximum(off, np.abs(rewards - grounded.rewards[:, None]))
    np.testing.assert_allclose(off.min(1), 0, atol=1e-5)
    member = off.argmin(1)
    # Each of both about as often, and not one of them throughout a plan.
    assert 0.3 < member.mean() < 0.7
    assert (np.diff(member) != 0).mean() > 0.3


class Echo(forward.World):
    """A world of one member whose next states begin with the action."""

    def __init__(self):
        pass

    def __call__(self, states, actions):
        following = jnp.concatenate([actions, states[:, 2:]], -1)
        return following[:, None], jnp.zeros((len(states), 1))

    def apart(self, answers):
        return jnp.zeros(len(answers))

    def knows(self, apart):
        return apart == 0


def test_noise_is_on_what_is_executed_and_not_on_what_is_recorded(teacher, task):
    model, inverse = (seeds.of_seed(one, 0) for one in teacher)
    inverse = inverse.replace(bounds=Bounds((-1.0, 0.0), (1.0, 6.0)))
    drawn = np.random.default_rng(6).uniform(-0.5, 0.5, (2, 400, 3))
    present, planned = jnp.asarray(drawn, jnp.float32)
    keys = jax.random.split(jax.random.key(7), 400)

    def executed(noise):
        how = Grounding(inverse, Echo(), action_noise=noise)
        _, following, actions, _ = how.execute(model, present, planned[:, None], keys)
        led_to = model.states.unnormalize(following[:, 0])
        return np.asarray(actions[:, 0]), np.asarray(led_to[:, :2])

    actions, done = executed(0.0)
    np.testing.assert_allclose(done, actions, atol=1e-5)
    same, disturbed = executed(0.02)
    np.testing.assert_array_equal(same, actions)
    # A share of half the range of each dimension, drawn for each trajectory; bounds cut some.
    inside = np.abs(inverse.bounds.shrink(actions)).max(-1) < 0.9
    assert inside.sum() > 100
    noise = (disturbed - actions)[inside] / np.array([1.0, 3.0])
    assert noise.std(0) == pytest.approx([0.02, 0.02], rel=0.15)
    assert noise.mean(0) == pytest.approx([0, 0], abs=0.005)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.25
    _, wild = executed(10.0)
    assert wild.min(0) == pytest.approx([-1, 0], abs=1e-4)
    assert wild.max(0) == pytest.approx([1, 6])


def test_each_step_has_noise_of_its_own(run, world):
    calm, noisy = (run(world=world, action_noise=noise) for noise in (0.0, 0.2))
    of_first = noisy.starts
    np.testing.assert_array_equal(noisy.observations[of_first], calm.observations[of_first])
    np.testing.assert_allclose(noisy.actions[of_first], calm.actions[of_first], atol=1e-5)
    assert np.abs(noisy.next_observations[of_first] - calm.next_observations[of_first]).max() > 1e-3
    # What follows is the answer to the disturbed action in every step.
    next_states, _ = said(world, noisy)
    off = np.abs(next_states.mean(1) - noisy.next_observations).max(-1)
    assert (off > 1e-4).mean() > 0.9


def test_an_episode_ends_where_members_disagree_too_much(run, world, task, starts):
    certain = run(world=world, task=task)
    answers, _ = said(world, certain)
    apart = np.asarray(seeds.of_seed(world, 0).apart(jnp.asarray(answers)))
    doubt = np.median(apart)
    cut = run(world=world.replace(doubt=np.full(1, doubt, np.float32)), task=task)
    # What it has in common with the other, up to and with the first step that is doubted.
    expected = []
    for first, last in zip(certain.starts, certain.ends, strict=True):
        doubted = np.flatnonzero(apart[first : last + 1] > doubt)
        expected.append(doubted[0] + 1 if len(doubted) else last + 1 - first)
    np.testing.assert_array_equal(cut.lengths, expected)
    assert (cut.lengths < certain.lengths).any()
    assert cut.terminals[cut.ends][cut.lengths < certain.lengths].all()


def test_grounded_actions_are_those_for_the_imagined_next_state(run, world, teacher):
    # The first step of both begins with the same plan.
    imagined, grounded = run(max_steps=1), run(world=world, max_steps=1)
    wanted = imagined.next_observations
    expected = actions_between(seeds.of_seed(teacher[1], 0), grounded.observations, wanted)
    np.testing.assert_allclose(grounded.actions, expected, atol=1e-4)
