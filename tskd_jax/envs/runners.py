"""Steps many of Gymnasium's Hopper, Walker2d or HalfCheetah (-v4, -v5) at once. No JAX imported.

Half the time of a step is Python code around MuJoCo: it computes a reward and an observation of a
dozen numbers, one environment at a time. Here MuJoCo is called for each environment, and the rest
is vectorised over all, with the same operations in the same order. The results are bit for bit
those of `step`; `steps_together` verifies this before it is relied on.
"""

import functools
from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.wrappers import OrderEnforcing, TimeLimit

from tskd_jax.envs.environment import make_environment, start_episode

ENTRY_POINTS = tuple(
    f"gymnasium.envs.mujoco.{module}_v{version}:{name}Env"
    for module, name in (
        ("hopper", "Hopper"),
        ("walker2d", "Walker2d"),
        ("half_cheetah", "HalfCheetah"),
    )
    for version in (4, 5)
)
TRIED = 100  # steps of the comparison with Gymnasium; fewer if the episode ends earlier


class Runners:
    """The environments of several episodes.

    Args:
      environments: E environments of one kind, for which `steps_together` holds.

    Attributes:
      limit: steps after which an episode is truncated.
    """

    def __init__(self, environments: Sequence[gymnasium.Env]):
        self.limit: int = environments[0].spec.max_episode_steps  # pyright: ignore
        bare: list[Any] = [environment.unwrapped for environment in environments]
        self._one = bare[0]
        self._simulators = [(one.model, one.data) for one in bare]
        self._views = [(one.data.ctrl, one.data.qpos, one.data.qvel) for one in bare]

    def step(
        self, numbers: Sequence[int], actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step some of the environments.

        Args:
          numbers: (R,) indices of these environments among the E.
          actions: (R, n) float64.

        Returns:
          ((R, m) observations, (R,) rewards, (R,) whether the termination rule ended the episode).
        """
        one, views = self._one, [self._views[number] for number in numbers]
        before = np.array([position[0] for _, position, _ in views])
        for number, (control, _, _), action in zip(numbers, views, actions, strict=True):
            control[:] = action
            mujoco.mj_step(*self._simulators[number], nstep=one.frame_skip)
        positions = np.array([position for _, position, _ in views])
        velocities = np.array([velocity for _, _, velocity in views])
        rewards = one._forward_reward_weight * ((positions[:, 0] - before) / one.dt)
        terminated = np.zeros(len(views), bool)
        seen = velocities
        if hasattr(one, "_healthy_reward"):
            healthy = _healthy(one, positions, velocities)
            # -v4 gives the healthy reward for the last step, too.
            paid = healthy if type(one).__module__.endswith("_v5") else 1.0
            rewards = rewards + paid * one._healthy_reward
            terminated = ~healthy
            seen = np.clip(velocities, -10, 10)
        rewards = rewards - one._ctrl_cost_weight * np.sum(np.square(actions), 1)
        return np.concatenate([positions[:, 1:], seen], 1), rewards, terminated


def _healthy(one: Any, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
    """(R,) whether the robot is healthy, that is, the episode continues."""

    def inside(x: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        return (limits[0] < x) & (x < limits[1])

    found = inside(positions[:, 1], one._healthy_z_range)
    found &= inside(positions[:, 2], one._healthy_angle_range)
    if hasattr(one, "_healthy_state_range"):
        state = np.concatenate([positions[:, 2:], velocities], 1)
        found &= inside(state, one._healthy_state_range).all(1)
    return found


@functools.cache
def steps_together(gymnasium_id: str) -> bool:
    """Whether `Runners` supports an environment and steps it bit for bit as it steps itself.

    This is tested, because another version of Gymnasium may compute a step differently.
    """
    known = gymnasium.registry.get(gymnasium_id)
    if known is None or known.entry_point not in ENTRY_POINTS:
        return False
    alone, other = make_environment(gymnasium_id), make_environment(gymnasium_id)
    try:
        return _is_plain(alone) and _agree(alone, other)
    finally:
        alone.close()
        other.close()


def _is_plain(environment: Any) -> bool:
    """Whether it has only Gymnasium's two wrappers, and default observations and termination."""
    bare = environment.unwrapped
    return (
        type(environment) is TimeLimit
        and type(environment.env) is OrderEnforcing
        and environment.env.env is bare
        and bare._exclude_current_positions_from_observation
        and getattr(bare, "_terminate_when_unhealthy", True)
    )


def _agree(alone: Any, other: Any) -> bool:
    start_episode(alone, 0)
    start_episode(other, 0)
    runners = Runners([other])
    rng = np.random.default_rng(0)
    for _ in range(TRIED):
        action = rng.uniform(-1, 1, alone.action_space.shape)
        observation, reward, terminated, *_ = alone.step(action)
        found = runners.step([0], action[None])
        expected = (observation, reward, terminated)
        if not all(np.array_equal(a[0], b) for a, b in zip(found, expected, strict=True)):
            return False
        if terminated:
            break
    return True
