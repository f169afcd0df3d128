"""Tests of evaluation episodes: each is run once, whole, and counted."""

import gymnasium
import numpy as np
import pytest

from tskd_jax.envs.entries import get_task
from tskd_jax.envs.environment import acceptable
from tskd_jax.envs.fleet import Fleet
from tskd_jax.envs.simulator import episode_seeds, record
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation.rollout import evaluate_students, play, rollout, started
from tskd_jax.policy import Bounds, Policy

LIMIT = 12
TASK = Task("countdown", "TskdCountdown-v0", 2, Bounds((-1.0,), (1.0,)), LIMIT, 0.0, 1.0)


class Countdown(gymnasium.Env):
    """Ends after `seed % 20` steps (at least 1); a step pays the action, and 100 at the end."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    log: list = []  # noqa: RUF012

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed_given, self.left = seed, max(1, seed % 20)
        self.log.append(("reset", seed))
        return np.array([self.left, seed], float), {}

    def step(self, action):
        assert self.left > 0, "stepped after its end"
        self.left -= 1
        self.log.append(("step", self.seed_given))
        reward = float(action[0]) + 100 * (self.left == 0)
        return np.array([self.left, self.seed_given], float), reward, self.left == 0, False, {}

    def close(self):
        self.log.append(("close", self.seed_given))


@pytest.fixture
def log():
    gymnasium.register(TASK.gymnasium_id, entry_point=Countdown, max_episode_steps=LIMIT)
    Countdown.log = []
    yield Countdown.log
    del gymnasium.registry[TASK.gymnasium_id]


def half(observations, _time, _rewards):
    return np.full((len(observations), 1), 0.5)


def test_every_episode_is_counted_once_and_whole(log):
    # Seed k lasts k steps at ½ each and ends with 100; seeds 12 and more reach the limit of 12
    # steps; 12 itself ends at that very step.
    seeds = [3, 1, 19, 7, 12, 13]
    returns = rollout(half, TASK, seeds)
    np.testing.assert_allclose(returns, [101.5, 100.5, 6, 103.5, 106, 6])
    for seed in seeds:
        assert log.count(("reset", seed)) == 1
        assert log.count(("step", seed)) == min(seed, LIMIT)
        assert log.count(("close", seed)) == 1


def test_episodes_do_not_depend_on_each_other(log):
    together = rollout(half, TASK, [2, 9, 5])
    assert [rollout(half, TASK, [seed])[0] for seed in (2, 9, 5)] == together.tolist()


def test_equal_seeds_are_episodes_of_their_own(log):
    np.testing.assert_allclose(rollout(half, TASK, [4, 4]), [102, 102])
    assert log.count(("step", 4)) == 8


def test_the_policy_sees_all_episodes_at_the_right_time(log):
    times = []

    def act(observations, time, _rewards):
        assert observations.shape == (2, 2)
        # Each counts down from its seed; nothing is left of one that has ended.
        assert observations[:, 0].tolist() == [max(2 - time, 0), 5 - time]
        assert observations[:, 1].tolist() == [2 if time < 2 else 0, 5]
        times.append(time)
        return np.zeros((2, 1))

    np.testing.assert_allclose(rollout(act, TASK, [2, 5]), [100, 100])
    assert times == [0, 1, 2, 3, 4]


def test_actions_of_ended_episodes_are_ignored(log):
    def act(observations, time, _rewards):
        return np.where(observations[:, :1] > 0, 0.25, np.nan)

    np.testing.assert_allclose(rollout(act, TASK, [1, 3]), [100.25, 100.75])


def test_progress(monkeypatch, log):
    seen = []
    # Episodes of at most 12 steps are too short to be worth a word.
    rollout(half, TASK, [5], lambda done, total: seen.append((done, total)))
    assert seen == []


def test_hopper_is_deterministic_by_seed():
    task = get_task("hopper")
    seen = []

    def act(observations, _time, _rewards):
        return np.zeros((len(observations), 3))

    first = rollout(act, task, [5, 6, 5], lambda done, total: seen.append((done, total)))
    assert first[0] == first[2] != first[1]
    np.testing.assert_array_equal(rollout(act, task, [6]), first[1:2])
    # A hopper that does nothing falls after some dozens of steps, at about 1 a step for living.
    assert ((first > 10) & (first < 300)).all()
    assert all(total == 1000 and done % 50 == 0 for done, total in seen)


def test_halfcheetah_runs_to_the_limit():
    steps = []

    def act(observations, time, _rewards):
        steps.append(time)
        return np.zeros((len(observations), 6))

    rollout(act, get_task("halfcheetah"), [0])
    assert steps == list(range(1000))


def test_students_act_in_their_own_episodes(log):
    class Constant:
        def __init__(self, action):
            self.action = action

        def __call__(self, observations):
            assert observations.shape == (3, 2)
            return np.full((3, 1), self.action)

    returns = evaluate_students([Constant(0.5), Constant(-1.0)], TASK, [4, 0], 3)
    assert returns.shape == (2, 3)
    for student, (seed, action) in enumerate([(4, 0.5), (0, -1.0)]):
        alone = rollout(
            lambda observations, _time, _rewards, action=action: np.full((3, 1), action),
            TASK,
            episode_seeds(seed, 3),
        )
        np.testing.assert_array_equal(returns[student], alone)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_simulation_that_diverges_is_scored(workers):
    """As far as a policy takes states: what is no number counts as 0."""
    weights, seen = (np.eye(2, dtype=np.float32), np.float32([[1e3], [0]])), []
    policy = Policy(weights, (np.zeros(2, np.float32), np.zeros(1, np.float32)), TASK.bounds)

    def act(observations, time, rewards):
        actions = started(policy)(observations, time, rewards)
        seen.append((acceptable(observations)[0].tolist(), actions[0].tolist()))
        return actions

    with Fleet("envs.odd_environments:odd/Diverging-v0", workers) as fleet:
        assert play(act, fleet, [0, 1], 9).returns.tolist() == [4, 4]
    # 2e6 is more than a policy must take, and is passed: this one does.
    assert seen == [([0, 0], [0]), ([0, 2e6], [0]), ([1e6, 2e6], [1]), ([-1e6, 2e6], [0])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_acceptable_observations_are_passed_as_they_are(dtype):
    usual = np.array([[1e-40, -0.0, 1e15], [-1e6, 3e9, 0.1]], dtype)
    found = acceptable(usual)
    assert found.dtype == dtype
    assert found.tobytes() == usual.tobytes()


def test_what_is_recorded_is_of_no_dataset_yet(log):
    data = record(half, TASK, [3, 1])
    assert data.lengths.tolist() == [3, 1]
    assert data.origin.tolist() == [-1] * 4
