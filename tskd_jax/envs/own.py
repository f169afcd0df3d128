"""The task of a config: a named one, or one derived from the simulator and the data."""

import functools
from dataclasses import replace

import gymnasium
import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import OWN, Config, get_task
from tskd_jax.envs.environment import make_environment
from tskd_jax.envs.simulator import has_settable_states
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError, DatasetError
from tskd_jax.policy import Bounds


def known_limit(config: Config) -> int | None:
    """The episode limit as far as it is known without the data; None if it is not."""
    if config.episode_limit:
        return config.episode_limit
    if config.name != OWN:
        return get_task(config.name).episode_limit
    return facts(config.gymnasium_id)[2] if config.gymnasium_id else None


def task_of(config: Config, recorded: Trajectories, source: str) -> Task:
    """Build the task that the config names, and check that its sizes match the data.

    Args:
      config: the config's `environment` section.
      recorded: the dataset.
      source: the dataset's name, for messages.

    Raises:
      ConfigError: the environment is unknown, not supported, or no version of the named one.
      DatasetError: the data's states or actions have other sizes than the environment's.
    """
    sizes = recorded.observations.shape[1], recorded.actions.shape[1]
    if config.name != OWN:
        task = get_task(config.name)
        if config.gymnasium_id not in ("", task.gymnasium_id):
            state_size, bounds, _ = facts(config.gymnasium_id)
            if (state_size, len(bounds.low)) != (task.state_size, task.action_size):
                raise ConfigError(
                    f"config.environment.gymnasium_id={config.gymnasium_id} has states of size "
                    f"{state_size} and actions of size {len(bounds.low)}, but {task.name} has "
                    f"{task.state_size} and {task.action_size}; another version of it is meant, as "
                    f"{task.gymnasium_id}; choose another --config, or --config=own"
                )
            settable = has_settable_states(config.gymnasium_id)
            # Another version has the same termination rule, but not the same reference returns.
            task = replace(
                task,
                gymnasium_id=config.gymnasium_id,
                random_return=None,
                expert_return=None,
                position_size=task.position_size if settable else None,
            )
    elif config.gymnasium_id:
        state_size, bounds, limit = facts(config.gymnasium_id)
        task = Task(
            name=OWN,
            gymnasium_id=config.gymnasium_id,
            state_size=state_size,
            bounds=bounds,
            episode_limit=limit or int(recorded.lengths.max()),
            rule_known=False,
        )
    else:
        task = Task(
            name=OWN,
            gymnasium_id="",
            state_size=sizes[0],
            bounds=recorded_bounds(recorded.actions),
            episode_limit=int(recorded.lengths.max()),
            rule_known=False,
        )
    if sizes != (task.state_size, task.action_size):
        raise DatasetError(
            f"{source}: states of size {sizes[0]} and actions of size {sizes[1]}, but "
            f"{config.gymnasium_id or task.name} has {task.state_size} and {task.action_size}; "
            "choose the config of its environment, or --config=own"
        )
    return replace(task, episode_limit=config.episode_limit or task.episode_limit)


def recorded_bounds(actions: np.ndarray) -> Bounds:
    """The smallest and largest of the recorded actions (N, n), in each dimension.

    A dimension with a constant value c has bounds around it, at a distance of 0.001 (1 + |c|).
    """
    low, high = actions.min(0).astype(np.float64), actions.max(0).astype(np.float64)
    margin = np.where(low < high, 0.0, 1e-3 * (1 + np.abs(high)))
    return Bounds(tuple((low - margin).tolist()), tuple((high + margin).tolist()))


@functools.cache  # making an environment is slow, and `known_limit` needs one before `task_of`
def facts(gymnasium_id: str) -> tuple[int, Bounds, int | None]:
    """(m, bounds of the actions, episode limit or None) of a Gymnasium environment.

    Raises:
      ConfigError: its states are not vectors, or its actions are not bounded vectors; a policy can
        use no dimension whose bounds are equal, or too far apart for single precision.
    """
    with make_environment(gymnasium_id) as environment:
        states, actions = environment.observation_space, environment.action_space
        limit = environment.spec.max_episode_steps if environment.spec else None
    if not isinstance(actions, gymnasium.spaces.Box) or len(actions.shape) != 1:
        raise ConfigError(
            f"{gymnasium_id}: its actions are {actions}; supported are vectors of real numbers "
            "(Box of one dimension)"
        )
    if not isinstance(states, gymnasium.spaces.Box) or len(states.shape) != 1:
        raise ConfigError(
            f"{gymnasium_id}: its observations are {states}; supported are vectors (Box of one "
            "dimension) and Dicts of them, no images"
        )
    if not (np.isfinite(actions.low) & np.isfinite(actions.high)).all():
        raise ConfigError(
            f"{gymnasium_id}: its actions have no bounds ({actions}); a policy needs them"
        )
    low, high = actions.low.astype(np.float64), actions.high.astype(np.float64)
    for i, (least, most) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        # As `Bounds.shrink` computes, which divides by the difference.
        if not np.float32(least) < np.float32(most):
            raise ConfigError(
                f"{gymnasium_id}: dimension {i} of its actions is fixed, at {least:g} … {most:g}; "
                "a policy needs low < high; leave it out, as by a wrapper"
            )
        if 2 * (most - least) > float(np.finfo(np.float32).max):
            raise ConfigError(
                f"{gymnasium_id}: dimension {i} of its actions has no bounds that mean anything, "
                f"{least:g} … {most:g}; a policy needs them"
            )
    return states.shape[0], Bounds(tuple(low.tolist()), tuple(high.tolist())), limit
