"""D4RL's Kitchen, against the simulator's own state; needs the extra `robotics`."""

import numpy as np
import pytest

from tskd_jax.config import finalize, make_config
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.environment import make_environment
from tskd_jax.envs.variants import KITCHEN_TASKS, OBJECTS, ROBOT
from tskd_jax.errors import ConfigError

BOTH = pytest.mark.parametrize("level", ["partial", "mixed"])


@pytest.fixture
def kitchen(level):
    pytest.importorskip("gymnasium_robotics", reason="Kitchen: pip install -e '.[robotics]'")
    with make_environment(TASKS[f"kitchen_{level}"].gymnasium_id) as env:
        yield env


@BOTH
def test_what_differs_in_the_paper(level):
    config, _ = finalize(make_config(f"kitchen_{level}", "paper"))
    # C = 20 past states, 56 steps ahead.
    assert config.trajectory_generator.context == 20
    assert config.trajectory_generator.horizon - config.trajectory_generator.context == 56
    quick, _ = finalize(make_config(f"kitchen_{level}", "quick"))
    assert quick.trajectory_generator.context == 1


def test_without_its_package(monkeypatch):
    import sys

    for name in [one for one in sys.modules if one.startswith("gymnasium_robotics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gymnasium_robotics", None)
    with pytest.raises(ConfigError, match=r"pip install 'tskd_jax\[robotics\]'"):
        make_environment(TASKS["kitchen_mixed"].gymnasium_id)


@BOTH
def test_sizes(kitchen, level):
    task = TASKS[f"kitchen_{level}"]
    assert kitchen.observation_space.shape == (task.state_size,) == (60,)
    assert kitchen.action_space.shape == (task.action_size,)
    np.testing.assert_array_equal(kitchen.action_space.low, task.bounds.low)
    np.testing.assert_array_equal(kitchen.action_space.high, task.bounds.high)
    assert kitchen.spec.max_episode_steps == task.episode_limit


@BOTH
def test_the_layout_is_the_simulators_state(kitchen, level):
    """9 joints and 21 coordinates, but for the sensors' noise, and the goal of each subtask."""
    from gymnasium_robotics.envs.franka_kitchen.kitchen_env import (
        OBS_ELEMENT_GOALS,
        OBS_ELEMENT_INDICES,
    )

    state, _ = kitchen.reset(seed=0)
    kitchen.action_space.seed(0)
    for _ in range(30):
        state, *_ = kitchen.step(kitchen.action_space.sample())
    positions = kitchen.unwrapped.data.qpos
    assert positions.shape == (ROBOT + OBJECTS,)
    np.testing.assert_allclose(state[:ROBOT], positions[:ROBOT], atol=0.02)
    np.testing.assert_allclose(state[ROBOT : ROBOT + OBJECTS], positions[ROBOT:], atol=2e-3)
    assert np.abs(positions[:ROBOT] - kitchen.unwrapped.robot_env.init_qpos[:ROBOT]).max() > 0.05
    goal = state[ROBOT + OBJECTS :]
    named = np.zeros(ROBOT + OBJECTS, bool)
    for name in KITCHEN_TASKS[f"Kitchen{level.capitalize()}-v0"]:
        np.testing.assert_array_equal(goal[OBS_ELEMENT_INDICES[name]], OBS_ELEMENT_GOALS[name])
        named[OBS_ELEMENT_INDICES[name]] = True
    assert not goal[~named].any()


@BOTH
def test_a_subtask_is_counted_once(kitchen, level):
    """Put the microwave's door where it belongs: a reward of 1, and none in the next step."""
    kitchen.reset(seed=0)
    inner = kitchen.unwrapped
    rewards = []
    for _ in range(3):
        inner.data.qpos[22] = -0.75
        rewards.append(kitchen.step(np.zeros(9))[1])
    assert rewards == [1.0, 0.0, 0.0]
