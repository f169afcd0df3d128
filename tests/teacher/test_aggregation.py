"""The states that the teacher is asked in: those in which students act in the world."""

import jax
import numpy as np
import pytest

from tskd_jax.models import referee, world
from tskd_jax.policy import Bounds, Policy
from tskd_jax.teacher import aggregation
from tskd_jax.training import seeds


@pytest.fixture(scope="module")
def worlds(tiny_trajectories):
    """Two seeds that have learnt a little."""
    config = world.Config(steps=100, batch_size=32, hidden=(8,), members=2)
    return world.train(config, tiny_trajectories, keys=jax.random.split(jax.random.key(0)))[0]


def policy(scale: float) -> Policy:
    """a = tanh(scale · s): of m = 3, n = 2."""
    return Policy(
        (scale * np.eye(3, 2, dtype=np.float32),),
        (np.zeros(2, np.float32),),
        Bounds.symmetric(1.0, 2),
    )


def contained(states, others):
    """For each state whether it is one of the others."""
    return (np.abs(states[:, None] - others[None]).max(-1) < 1e-6).any(1)


def test_they_are_of_the_students_own_rollouts(worlds, tiny_task, tiny_trajectories):
    starts = tiny_trajectories.initial_observations
    config = aggregation.Config(rounds=1, episodes=12, states=30)
    keys = jax.random.split(jax.random.key(4))
    # Of two seeds, each student is rolled out in the world of its own.
    policies = [policy(1.0), policy(-1.0)]
    states, metrics = aggregation.visited_states(config, worlds, policies, tiny_task, starts, keys)
    assert states.shape == (2, 30, 3)
    for index in range(2):
        start_key, member_key, _ = jax.random.split(keys[index], 3)
        chosen = np.asarray(jax.random.randint(start_key, (12,), 0, len(starts)))
        verdict = referee.judge(
            seeds.of_seed(worlds, index),
            *([policies[index]], tiny_task, starts[chosen], member_key, True),
        )
        assert contained(states[index], verdict.visited()).all()
        assert metrics[index]["steps"] == pytest.approx(verdict.lengths.mean())
    assert not contained(states[0], states[1]).all()


def test_there_are_no_more_than_were_visited(worlds, tiny_task, tiny_trajectories):
    config = aggregation.Config(rounds=1, episodes=2, states=10_000)
    one = jax.tree.map(lambda leaf: leaf[:1], worlds)
    states, metrics = aggregation.visited_states(
        *(config, one, [policy(1.0), policy(0.5)], tiny_task),
        *(tiny_trajectories.initial_observations, jax.random.key(0)[None]),
    )
    # Both students, two episodes each.
    assert states.shape[1] == round(metrics[0]["steps"] * 4)
