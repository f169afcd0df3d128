"""Known facts about the environments: sizes, limits, termination rules, reference scores.

Pure facts and pure functions; the simulators themselves are touched in `tskd_jax.evaluation` only.
They stand apart from it because the teacher needs the termination rule, and the teacher may not
depend on the evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tskd_jax.errors import ConfigError

Observations = Float[Array, "*batch state"]
Alive = Bool[Array, "*batch"]


def _always_alive(observations: Observations) -> Alive:
    return jnp.ones(observations.shape[:-1], bool)


def _hopper_alive(observations: Observations) -> Alive:
    height, angle = observations[..., 0], observations[..., 1]
    bounded = (jnp.abs(observations[..., 1:]) < 100).all(-1)
    return jnp.isfinite(observations).all(-1) & bounded & (height > 0.7) & (jnp.abs(angle) < 0.2)


def _walker2d_alive(observations: Observations) -> Alive:
    height, angle = observations[..., 0], observations[..., 1]
    return (height > 0.8) & (height < 2.0) & (jnp.abs(angle) < 1.0)


@dataclass(frozen=True)
class Task:
    """What is known of an environment without running it.

    Attributes:
      name: the config's `environment.name`.
      gymnasium_id: the environment that evaluates a policy. -v4, whose physics file is that of
        D4RL's v2; -v5 changed rewards and a friction.
      state_size, action_size: m and n.
      action_bound: actions lie in [-bound, bound] in every dimension.
      episode_limit: steps after which an episode is cut (a truncation, not a failure).
      random_return, expert_return: the ends of D4RL's normalised score.
      alive: the environment's termination rule, (..., m) -> (...); False ends an episode.
      position_size: how many leading observation entries are positions. MuJoCo's state is
        (x, observation[:position_size]) and the velocities behind it.
    """

    name: str
    gymnasium_id: str
    state_size: int
    action_size: int
    action_bound: float
    episode_limit: int
    random_return: float
    expert_return: float
    alive: Callable[[Array], Array]
    position_size: int

    def normalized_score(self, returns):
        """D4RL's score: 0 for the random policy's return, 100 for the expert's."""
        return 100.0 * (returns - self.random_return) / (self.expert_return - self.random_return)


TASKS = {
    task.name: task
    for task in (
        Task("hopper", "Hopper-v4", 11, 3, 1.0, 1000, -20.272305, 3234.3, _hopper_alive, 5),
        Task(
            "halfcheetah",
            "HalfCheetah-v4",
            17,
            6,
            1.0,
            1000,
            -280.178953,
            12135.0,
            _always_alive,
            8,
        ),
        Task("walker2d", "Walker2d-v4", 17, 6, 1.0, 1000, 1.629008, 4592.3, _walker2d_alive, 8),
    )
}


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
      ConfigError: the name is not one of `TASKS`.
    """
    if name not in TASKS:
        raise ConfigError(f"environment.name={name!r} is unknown; one of {', '.join(TASKS)}")
    return TASKS[name]
