"""Environments with the observations of D4RL's data; importing this module registers them.

- `tskd_jax/Ant-v4`: Ant-v4 with its 84 contact forces, 111 numbers in all.
- `tskd_jax/KitchenPartial-v0`, `tskd_jax/KitchenMixed-v0`: FrankaKitchen of gymnasium-robotics
  (extra `robotics`) with D4RL's 60 numbers, four subtasks each.
"""

from typing import Any

import gymnasium
import numpy as np

ROBOT, OBJECTS = 9, 21  # numbers of positions: of the robot's joints, of the kitchen's objects
KITCHEN_TASKS = {
    "KitchenPartial-v0": ("microwave", "kettle", "light switch", "slide cabinet"),
    "KitchenMixed-v0": ("microwave", "kettle", "bottom burner", "light switch"),
}


class KitchenState(gymnasium.ObservationWrapper):
    """D4RL's 60 numbers: 9 joint positions, 21 object coordinates, and 30 of the goal.

    The goal has an entry for each of those 30 positions: its target in a subtask, otherwise 0.
    """

    def __init__(self, env: gymnasium.Env, places: dict[str, Any], goals: dict[str, Any]):
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Box(
            -np.inf, np.inf, (2 * (ROBOT + OBJECTS),), np.float64
        )
        self._goal = np.zeros(ROBOT + OBJECTS)
        for name, place in places.items():
            self._goal[place] = goals[name]

    def observation(self, observation: Any) -> np.ndarray:
        """(60,) from FrankaKitchen's 9 positions, 9 velocities, 21 positions and 20 others."""
        numbers = observation["observation"]
        joints, objects = numbers[:ROBOT], numbers[2 * ROBOT : 2 * ROBOT + OBJECTS]
        return np.concatenate([joints, objects, self._goal])


def make_kitchen(tasks: tuple[str, ...], **options: Any) -> gymnasium.Env:
    """Make FrankaKitchen with the given subtasks.

    Each subtask gives a reward of 1, once; the episode ends when all are done.

    Raises:
      ImportError: gymnasium-robotics is not installed.
    """
    try:
        from gymnasium_robotics.envs.franka_kitchen import (  # pyright: ignore[reportMissingImports]
            kitchen_env,
        )
    except ImportError as error:
        raise ImportError("pip install 'tskd_jax[robotics]'") from error
    made = kitchen_env.KitchenEnv(tasks_to_complete=list(tasks), **options)
    places = {name: kitchen_env.OBS_ELEMENT_INDICES[name] for name in tasks}
    return KitchenState(made, places, kitchen_env.OBS_ELEMENT_GOALS)


for _name, _tasks in KITCHEN_TASKS.items():
    gymnasium.register(
        f"tskd_jax/{_name}",
        entry_point=make_kitchen,
        kwargs={"tasks": _tasks},
        max_episode_steps=280,
    )
gymnasium.register(
    "tskd_jax/Ant-v4",
    entry_point="gymnasium.envs.mujoco.ant_v4:AntEnv",
    kwargs={"use_contact_forces": True},
    max_episode_steps=1000,
)
