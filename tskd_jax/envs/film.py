"""Renders frames of an episode with the simulator, without a screen."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from tskd_jax.envs.environment import (
    acceptable,
    explained,
    make_environment,
    observed,
    permitted,
    start_episode,
    without_warnings,
)
from tskd_jax.envs.simulator import control_hz
from tskd_jax.errors import ConfigError
from tskd_jax.policy import Policy

WIDTH, HEIGHT = 320, 240  # pixels; software rendering draws a few such frames per second


def film(
    policy: Policy,
    gymnasium_id: str,
    seed: int,
    every: int,
    steps: int,
    on_step: Callable[[int], None] = lambda step: None,
) -> tuple[list[np.ndarray], float]:
    """Play one episode and render its start, every `every`-th step, and its end.

    Args:
      policy: the policy that acts.
      gymnasium_id: id of the environment.
      seed: seed of the start state.
      every: steps between two frames.
      steps: maximum number of steps.
      on_step: called with the number of steps done.

    Returns:
      (frames (HEIGHT, WIDTH, 3) uint8, or of the environment's own size; the return).

    Raises:
      ConfigError: the environment fails, or cannot be rendered on this machine.
    """
    environment = _drawn(gymnasium_id)
    try:
        with without_warnings():
            with explained(gymnasium_id):
                observation = start_episode(environment, seed)
            frames, gained = [_frame(environment, gymnasium_id)], 0.0
            for step in range(1, steps + 1):
                action = policy(acceptable(observation[None]))[0].astype(np.float64)
                with explained(gymnasium_id):
                    following, reward, terminated, truncated, _ = environment.step(
                        permitted(environment, action)
                    )
                    observation = observed(environment, following, f"step {step}")
                    gained += np.asarray(reward, np.float64).item()
                ended = terminated or truncated or step == steps
                if step % every == 0 or ended:
                    frames.append(_frame(environment, gymnasium_id))
                on_step(step)
                if ended:
                    break
    finally:
        environment.close()
    return frames, gained


def frames_per_second(gymnasium_id: str, every: int) -> float:
    """The frame rate of a film in real time; 25 if the environment's control rate is unknown."""
    hz = control_hz(gymnasium_id)
    return hz / every if hz else 25.0


def _drawn(gymnasium_id: str) -> gymnasium.Env:
    try:
        return make_environment(gymnasium_id, render_mode="rgb_array", width=WIDTH, height=HEIGHT)
    except ConfigError:
        # Not every environment accepts a frame size.
        return make_environment(gymnasium_id, render_mode="rgb_array")


def _frame(environment: gymnasium.Env, gymnasium_id: str) -> np.ndarray:
    try:
        frame: Any = environment.render()
        return np.asarray(frame, np.uint8)
    except Exception as error:  # drivers raise errors of their own for what they lack
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(
            f"{gymnasium_id}: nothing can be drawn here ({reason}); install a driver for EGL "
            "(libegl1, libgl1-mesa-dri), or set MUJOCO_GL=osmesa and install libosmesa6"
        ) from error
