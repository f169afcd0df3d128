"""Tests of the simulators' making; `record` is tested with the evaluation's episodes."""

import gymnasium
import numpy as np
import pytest

from tskd_jax.envs.entries import get_task
from tskd_jax.envs.environment import make_environment
from tskd_jax.envs.simulator import episode_seeds, record
from tskd_jax.envs.tasks import Task
from tskd_jax.policy import Bounds


def test_environments_are_silent(capfd, recwarn):
    level = gymnasium.logger.min_level
    make_environment("Hopper-v4").close()
    assert gymnasium.logger.min_level == level
    assert "deprecated" not in capfd.readouterr().err
    assert not [w for w in recwarn if "out of date" in str(w.message)]


def test_seeds_of_episodes_are_distinct():
    seeds = [seed for student in range(20) for seed in episode_seeds(student, 1000)]
    assert len(set(seeds)) == 20_000
    assert min(seeds) >= 0
    assert max(seeds) < 2**31
    # More episodes begin with the same ones.
    assert episode_seeds(3, 100)[:10] == episode_seeds(3, 10)
    assert episode_seeds(0, 0) == []


@pytest.mark.parametrize("name", ["hopper", "halfcheetah", "walker2d"])
def test_making_an_environment_says_nothing(name, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_environment(get_task(name).gymnasium_id).close()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


class Careless(gymnasium.Env):
    """As OGBench's mazes: a start of NumPy's global generator, a few actions of its own space."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def __init__(self):
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        start = [np.random.normal(), self.action_space.sample()[0], self.np_random.normal()]
        return np.array(start), {}

    def step(self, action):
        self.time += 1
        return np.array([np.random.normal(), 0.0, 0.0]), 1.0, self.time == 3, False, {}


def test_every_generator_of_an_environment_is_seeded():
    name = "test/Careless-v0"
    gymnasium.register(name, Careless)
    try:
        task = Task("own", name, 3, Bounds((-1.0,), (1.0,)), 10)
        np.random.seed(7)
        before = np.random.get_state()[1].copy()
        once, again = (record(lambda o, *_: np.zeros((len(o), 1)), task, [3, 4]) for _ in range(2))
        np.testing.assert_array_equal(once.observations, again.observations)
        np.testing.assert_array_equal(np.random.get_state()[1], before)
        # Every episode starts by its own seed, whatever the others are.
        (alone,) = record(lambda o, *_: np.zeros((1, 1)), task, [4]).initial_observations
        np.testing.assert_array_equal(alone, once.initial_observations[1])
        assert (once.initial_observations[0] != once.initial_observations[1]).all()
    finally:
        gymnasium.registry.pop(name)
