"""Tests of the simulator's check: it reproduces what it recorded, and tells truth from fiction."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.environment import make_environment
from tskd_jax.envs.simulator import step_from
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.simulator_check import check

KNOWN = {name: task for name, task in TASKS.items() if task.position_size is not None}
ALL = pytest.mark.parametrize("task", KNOWN.values(), ids=KNOWN)


def record(task: Task, steps: int = 40) -> Trajectories:
    """Transitions of random actions, in double precision until they are stored."""
    env = make_environment(task.gymnasium_id)
    columns = []
    state, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(steps):
        action = env.action_space.sample()
        following, reward, terminal, _, _ = env.step(action)
        columns.append((state, action, reward, following, terminal))
        state = env.reset()[0] if terminal else following
    env.close()
    s, a, r, s_next, terminal = map(np.array, zip(*columns, strict=True))
    return from_columns(
        observations=s,
        actions=a,
        rewards=r,
        next_observations=s_next,
        terminals=terminal,
        lengths=[steps],
    )


@ALL
def test_recorded_transitions_are_reproduced(task):
    data = record(task, 150)
    # A velocity at the bound of hopper and walker2d was clipped: what it was is not known.
    known = (np.abs(data.observations) != 10).all(1)
    assert known.sum() > 30
    following, rewards = step_from(task, data.observations[known], data.actions[known])
    np.testing.assert_allclose(rewards, data.rewards[known], atol=1e-3)
    expected = data.next_observations[known]
    # Contacts amplify the rounding of the stored state; all but very few are within 1e-4.
    error = np.abs(following - expected) / np.maximum(1, np.abs(expected))
    assert np.median(error.max(1)) < 1e-5
    assert (error.max(1) < 1e-4).mean() >= 0.95
    assert following.dtype == data.observations.dtype


@ALL
def test_double_precision_is_reproduced_exactly(task):
    env = make_environment(task.gymnasium_id)
    state, _ = env.reset(seed=1)
    action = np.full(task.action_size, 0.3)
    following = env.step(action)[0]
    env.close()
    # Warm starts of the contact solver leave differences far below single precision.
    np.testing.assert_allclose(
        step_from(task, state[None], action[None])[0][0], following, rtol=1e-5, atol=1e-5
    )


def test_the_order_of_transitions_is_no_matter():
    task = TASKS["hopper"]
    data = record(task, 10)
    forth, _ = step_from(task, data.observations, data.actions)
    back, _ = step_from(task, data.observations[::-1], data.actions[::-1])
    np.testing.assert_allclose(forth, back[::-1], atol=1e-4)


def test_no_transitions():
    task = TASKS["hopper"]
    following, rewards = step_from(task, np.zeros((0, 11), np.float32), np.zeros((0, 3)))
    assert (following.shape, rewards.shape) == ((0, 11), (0,))


class Stuck(gymnasium.Env):
    """Has the sizes of a hopper, and another state than MuJoCo's."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (11,))
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,))

    def reset(self, *, seed=None, options=None):
        return np.zeros(11), {}

    def set_state(self, state):
        raise NotImplementedError


def test_states_that_cannot_be_set_are_one_line():
    gymnasium.register("odd/Stuck-v0", Stuck)
    try:
        task = replace(TASKS["hopper"], gymnasium_id="odd/Stuck-v0")
        with pytest.raises(ConfigError) as caught:
            step_from(task, np.zeros((2, 11)), np.zeros((2, 3)))
    finally:
        gymnasium.registry.pop("odd/Stuck-v0")
    line = str(caught.value)
    assert line.startswith(
        "odd/Stuck-v0: cannot continue from states of the form of hopper's (Type"
    )
    assert "--config.evaluation.simulator_check=0" in line


def test_check_tells_truth_from_fiction(monkeypatch):
    task = TASKS["hopper"]
    data = record(task)
    # An inverse dynamics that is never wrong about what was recorded.
    actions = {
        state.tobytes(): action
        for state, action in zip(data.observations, data.actions, strict=False)
    }
    monkeypatch.setattr(
        simulator_check,
        "actions_between",
        lambda _model, states, _next: np.stack([actions[state.tobytes()] for state in states]),
    )
    deviation = data.observations.std(0)
    true = check(task, None, data, deviation, 15)
    assert true["transitions"] == 15
    assert true["error"] < 0.01 < 0.1 < true["nothing_moves"]

    # Half a deviation off in every dimension is an error of ½.
    off = data.replace(next_observations=data.next_observations + np.float32(0.5) * deviation)
    assert check(task, None, off, deviation, 100)["error"] == pytest.approx(0.5, abs=0.02)
    assert check(task, None, off, deviation, 100)["transitions"] == 40

    # Claiming that nothing moves is exactly as bad as the figure it is compared with.
    still = data.replace(next_observations=data.observations)
    figures = check(task, None, still, deviation, 100)
    assert figures["error"] == figures["nothing_moves"]

    # The draw is the seed's.
    assert check(task, None, off, deviation, 5, seed=1) == check(
        task, None, off, deviation, 5, seed=1
    )


def test_check_of_a_constant_dimension(monkeypatch):
    task = TASKS["hopper"]
    data = record(task, 5)
    monkeypatch.setattr(
        simulator_check,
        "actions_between",
        lambda _model, states, _next: data.actions[: len(states)],
    )
    assert np.isfinite(check(task, None, data, np.zeros(11, np.float32), 5)["error"])
