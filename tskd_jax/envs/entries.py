"""The environments that are known by name. To add one, add a `Task` to `_ALL`."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp

from tskd_jax.envs.tasks import Alive, Observations, Task, never_ends
from tskd_jax.errors import ConfigError
from tskd_jax.fields import ANY, NOT_NEGATIVE, field, one_of
from tskd_jax.policy import Bounds

OWN = "own"


def _hopper_alive(observations: Observations) -> Alive:
    height, angle = observations[..., 0], observations[..., 1]
    bounded = (jnp.abs(observations[..., 1:]) < 100).all(-1)
    return jnp.isfinite(observations).all(-1) & bounded & (height > 0.7) & (jnp.abs(angle) < 0.2)


def _walker2d_alive(observations: Observations) -> Alive:
    height, angle = observations[..., 0], observations[..., 1]
    return (height > 0.8) & (height < 2.0) & (jnp.abs(angle) < 1.0)


def _ant_alive(observations: Observations) -> Alive:
    height = observations[..., 0]
    return jnp.isfinite(observations).all(-1) & (height >= 0.2) & (height <= 1.0)


def _d4rl_levels(name: str) -> dict[str, str]:
    levels = ("medium", "medium-replay", "medium-expert")
    return {level: f"{name}-{level}-v2" for level in levels}


def _overrides(radius: float, margin: float) -> Mapping[str, Mapping[str, Any]]:
    """ρ and ξ of Appendix B."""
    sections = {"stitching": {"radius": radius}, "filter": {"margin": margin}}
    return MappingProxyType({name: MappingProxyType(fields) for name, fields in sections.items()})


def _kitchen(level: str) -> Task:
    """D4RL's Kitchen: four subtasks; the return is the number of completed ones."""
    context, horizon = 20, 76  # C, and H with H - C = 56 (Appendix B)
    teacher = MappingProxyType({"context": context, "horizon": horizon})
    return Task(
        name=f"kitchen_{level}",
        gymnasium_id=f"tskd_jax.envs.variants:tskd_jax/Kitchen{level.capitalize()}-v0",
        state_size=60,
        bounds=Bounds.symmetric(1.0, 9),
        episode_limit=280,
        random_return=0.0,
        expert_return=4.0,
        rule_known=False,  # the episode ends when each subtask has been done once
        levels=MappingProxyType({level: f"kitchen-{level}-v0"}),
        default_level=level,
        overrides=_overrides(radius=1.0, margin=1.0),
        paper=MappingProxyType({"trajectory_generator": teacher}),
    )


# -v4 uses the physics file of D4RL's v2; -v5 changed rewards and a friction.
_ALL = (
    Task(
        name="hopper",
        gymnasium_id="Hopper-v4",
        state_size=11,
        bounds=Bounds.symmetric(1.0, 3),
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
        bounds=Bounds.symmetric(1.0, 6),
        episode_limit=1000,
        random_return=-280.178953,
        expert_return=12135.0,
        alive=never_ends,
        position_size=8,
        levels=MappingProxyType(
            {"embedded": "halfcheetah-sac-replay"} | _d4rl_levels("halfcheetah")
        ),
        default_level="embedded",
        overrides=_overrides(radius=3.0, margin=1000.0),
    ),
    Task(
        name="walker2d",
        gymnasium_id="Walker2d-v4",
        state_size=17,
        bounds=Bounds.symmetric(1.0, 6),
        episode_limit=1000,
        random_return=1.629008,
        expert_return=4592.3,
        alive=_walker2d_alive,
        position_size=8,
        levels=MappingProxyType({"embedded": "walker2d-sac-replay"} | _d4rl_levels("walker2d")),
        default_level="embedded",
        overrides=_overrides(radius=1.0, margin=1000.0),
    ),
    Task(
        name="ant",
        gymnasium_id="tskd_jax.envs.variants:tskd_jax/Ant-v4",
        state_size=111,
        bounds=Bounds.symmetric(1.0, 8),
        episode_limit=1000,
        random_return=-325.6,
        expert_return=3879.7,
        alive=_ant_alive,
        levels=MappingProxyType(_d4rl_levels("ant")),
        default_level="medium-replay",
        overrides=_overrides(radius=1.0, margin=1000.0),
    ),
    _kitchen("partial"),
    _kitchen("mixed"),
)
TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _ALL})
# Of `own` only the config's overrides are known: without a simulator, students are judged offline.
OWN_TASK = Task(
    name=OWN,
    gymnasium_id="",
    state_size=0,
    bounds=Bounds((), ()),
    episode_limit=0,
    overrides=MappingProxyType(
        {
            "referee": MappingProxyType({"episodes": 40}),
            "evaluation": MappingProxyType({"held_out": 0.1, "visited_states": 500}),
        }
    ),
)


@dataclass(frozen=True)
class Config:
    """`config.environment`."""

    name: str = field(
        "hopper",
        one_of((*TASKS, OWN)),
        f"the task; {OWN}: what the data and the next two fields say",
    )
    gymnasium_id: str = field(
        "",
        ANY,
        f"the environment of Gymnasium that evaluates, as Ant-v5; empty: the task's, or with {OWN} "
        "none: students are judged offline",
    )
    episode_limit: int = field(
        0,
        NOT_NEGATIVE,
        "steps after which an episode is cut; 0: as the task or Gymnasium says, or the longest "
        "recorded",
    )
    control_hz: float = field(
        0.0,
        NOT_NEGATIVE,
        "actions per second, for the students' contracts; 0: as Gymnasium's environment says, if "
        "there is one",
    )


def get_task(name: str) -> Task:
    """Look up a task by name.

    Raises:
      ConfigError: the name is not in `TASKS`.
    """
    if name not in TASKS:
        raise ConfigError(f"environment.name={name!r} is unknown; one of {', '.join(TASKS)}")
    return TASKS[name]
