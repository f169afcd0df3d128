"""Robots stepped together: to the bit what their own `step` gives, or not at all."""

import gymnasium
import numpy as np
import pytest

from tskd_jax.envs import runners
from tskd_jax.envs.environment import make_environment, start_episode
from tskd_jax.envs.runners import Runners, steps_together

ROBOTS = [
    f"{name}-v{version}" for version in (4, 5) for name in ("Hopper", "Walker2d", "HalfCheetah")
]


@pytest.fixture(autouse=True)
def _tried_anew():
    steps_together.cache_clear()
    yield
    steps_together.cache_clear()


@pytest.mark.parametrize("name", ROBOTS)
def test_whole_episodes_are_the_same_to_the_bit(name):
    assert steps_together(name)
    ours, theirs = ([make_environment(name) for _ in range(3)] for _ in range(2))
    for seed, pair in enumerate(zip(ours, theirs, strict=True)):
        for environment in pair:
            start_episode(environment, seed)
    together, running, ends = Runners(ours), [0, 1, 2], 0
    rng = np.random.default_rng(1)
    for _ in range(300):
        actions = rng.uniform(-1, 1, (3, *ours[0].action_space.shape))
        found = together.step(running, actions[running])
        still = []
        for number, observation, reward, terminated in zip(running, *found, strict=True):
            expected = theirs[number].step(actions[number])
            np.testing.assert_array_equal(observation, expected[0])
            assert (reward, terminated) == expected[1:3]
            ends += terminated
            if not terminated:
                still.append(number)
        running = still
        if not running:
            break
    assert ends == (0 if name.startswith("HalfCheetah") else 3)
    assert together.limit == 1000


@pytest.mark.parametrize("name", ["Hopper-v4", "Hopper-v5"])
def test_a_fall_by_speed_ends_a_hop(name):
    # Beyond ±100 of `healthy_state_range`, which no random action reaches.
    ours, theirs = make_environment(name), make_environment(name)
    for environment in (ours, theirs):
        start_episode(environment, 0)
        bare = environment.unwrapped
        bare.set_state(bare.init_qpos, np.array([0, 0, 0, 0, 0, 130.0]))
    (observation,), (reward,), (terminated,) = Runners([ours]).step([0], np.zeros((1, 3)))
    expected = theirs.step(np.zeros(3))
    np.testing.assert_array_equal(observation, expected[0])
    assert (reward, terminated) == expected[1:3]


@pytest.mark.parametrize("name", ["Ant-v4", "Swimmer-v5", "Pendulum-v1", "tskd_jax/Unknown-v0"])
def test_others_are_left_alone(name):
    assert not steps_together(name)


@pytest.mark.parametrize(
    "changed",
    [
        {"terminate_when_unhealthy": False},
        {"exclude_current_positions_from_observation": False},
    ],
)
def test_other_forms_of_them_are_left_alone(changed):
    known = gymnasium.registry["Hopper-v4"]
    gymnasium.register("odd/Hopper-v0", known.entry_point, max_episode_steps=9, kwargs=changed)
    try:
        assert not steps_together("odd/Hopper-v0")
    finally:
        gymnasium.registry.pop("odd/Hopper-v0")


def test_other_numbers_of_theirs_are_read():
    known = gymnasium.registry["Hopper-v4"]
    changed = {"forward_reward_weight": 3.0, "healthy_reward": 0.25, "healthy_z_range": (1.2, 2.0)}
    gymnasium.register("odd/Hopper-v0", known.entry_point, max_episode_steps=9, kwargs=changed)
    try:
        assert steps_together("odd/Hopper-v0")
        assert Runners([make_environment("odd/Hopper-v0")]).limit == 9
    finally:
        gymnasium.registry.pop("odd/Hopper-v0")


def test_a_wrapped_one_is_left_alone():
    known = gymnasium.registry["Hopper-v4"]
    wrapper = gymnasium.wrappers.RescaleAction.wrapper_spec(min_action=-2.0, max_action=2.0)
    gymnasium.register(
        "odd/Hopper-v0", known.entry_point, max_episode_steps=9, additional_wrappers=(wrapper,)
    )
    try:
        assert not steps_together("odd/Hopper-v0")
    finally:
        gymnasium.registry.pop("odd/Hopper-v0")


def test_a_last_bit_is_enough_to_leave_it(monkeypatch):
    step = Runners.step

    def other(self, numbers, actions):
        observations, rewards, terminated = step(self, numbers, actions)
        return observations, np.nextafter(rewards, np.inf), terminated

    monkeypatch.setattr(Runners, "step", other)
    assert not steps_together("Hopper-v4")
    assert runners.TRIED > 10
