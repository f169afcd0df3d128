"""Known facts about the environments: sizes, limits, termination rules, reference scores.

Pure facts and pure functions, for parts that need a termination rule but no simulator
(`tskd_jax.envs.simulator`), and what a config takes over from its environment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tskd_jax.errors import ConfigError
from tskd_jax.fields import field, one_of

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


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


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
      levels: dataset level -> dataset name.
      default_level: one of them.
      overrides: section -> field -> value that a config has for this environment at every preset
        (Appendix B). Neither these nor the levels are a part of what the environment is: tasks
        that differ in nothing else are equal.
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
    levels: Mapping[str, str] = dataclass_field(default_factory=_nothing, compare=False)
    default_level: str = dataclass_field(default="", compare=False)
    overrides: Mapping[str, Mapping[str, Any]] = dataclass_field(
        default_factory=_nothing, compare=False
    )

    def normalized_score(self, returns):
        """D4RL's score: 0 for the random policy's return, 100 for the expert's."""
        return 100.0 * (returns - self.random_return) / (self.expert_return - self.random_return)


def _d4rl_levels(name: str) -> dict[str, str]:
    levels = ("medium", "medium-replay", "medium-expert")
    return {level: f"{name}-{level}-v2" for level in levels}


def _overrides(radius: float, margin: float) -> Mapping[str, Mapping[str, Any]]:
    sections = {"stitching": {"radius": radius}, "filter": {"margin": margin}}
    return MappingProxyType({name: MappingProxyType(fields) for name, fields in sections.items()})


_ALL = (
    Task(
        name="hopper",
        gymnasium_id="Hopper-v4",
        state_size=11,
        action_size=3,
        action_bound=1.0,
        episode_limit=1000,
        random_return=-20.272305,
        expert_return=3234.3,
        alive=_hopper_alive,
        position_size=5,
        levels=MappingProxyType({"embedded": "hopper-sac-replay"} | _d4rl_levels("hopper")),
        default_level="embedded",
        overrides=_overrides(radius=0.1, margin=500.0),
    ),
    Task(
        name="halfcheetah",
        gymnasium_id="HalfCheetah-v4",
        state_size=17,
        action_size=6,
        action_bound=1.0,
        episode_limit=1000,
        random_return=-280.178953,
        expert_return=12135.0,
        alive=_always_alive,
        position_size=8,
        levels=MappingProxyType(_d4rl_levels("halfcheetah")),
        default_level="medium-replay",
        overrides=_overrides(radius=3.0, margin=1000.0),
    ),
    Task(
        name="walker2d",
        gymnasium_id="Walker2d-v4",
        state_size=17,
        action_size=6,
        action_bound=1.0,
        episode_limit=1000,
        random_return=1.629008,
        expert_return=4592.3,
        alive=_walker2d_alive,
        position_size=8,
        levels=MappingProxyType(_d4rl_levels("walker2d")),
        default_level="medium-replay",
        overrides=_overrides(radius=1.0, margin=1000.0),
    ),
)
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})


@dataclass(frozen=True)
class Config:
    """`config.environment`."""

    name: str = field("hopper", one_of(TASKS), "the task")


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
      ConfigError: the name is not one of `TASKS`.
    """
    if name not in TASKS:
        raise ConfigError(f"environment.name={name!r} is unknown; one of {', '.join(TASKS)}")
    return TASKS[name]
