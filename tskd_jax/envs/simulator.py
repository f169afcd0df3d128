"""The simulators: step from states of a dataset, and record whole episodes of a policy."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.environment import in_a_line, make_environment, permitted, without_warnings
from tskd_jax.envs.fleet import Act, Fleet
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError


@runtime_checkable
class Actor(Protocol):
    """Anything that acts but is not a `Policy`, because it has a memory or plans."""

    @property
    def parameters(self) -> int:
        """Number of parameters in all networks that it uses to act."""
        ...

    def start(self) -> Act:
        """A function that plays several episodes in lockstep, from time 0 on."""
        ...


def step_from(task: Task, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Take one step from each state.

    An observation is the whole state except the position along the track, on which nothing
    depends. Some observations clip velocities to ±10; the exact state is then unknown.

    Args:
      task: a task with a known `position_size`.
      states: (N, m) observations.
      actions: (N, n).

    Returns:
      ((N, m) next states, with the dtype of `states`; (N,) rewards).

    Raises:
      ConfigError: the environment cannot be made, or cannot continue from the states.
    """
    environment: Any = make_environment(task.gymnasium_id).unwrapped
    cut = task.position_size
    next_states, rewards = np.zeros_like(states), np.zeros(len(states))
    pairs = zip(states.astype(np.float64), np.asarray(actions, np.float64), strict=True)
    try:
        environment.reset(seed=0)
        # An impossible state makes MuJoCo warn and reset itself.
        with without_warnings():
            for i, (state, action) in enumerate(pairs):
                environment.set_state(np.concatenate([[0.0], state[:cut]]), state[cut:])
                next_states[i], rewards[i], *_ = environment.step(permitted(environment, action))
    except Exception as error:
        raise ConfigError(
            f"{task.gymnasium_id}: cannot continue from states of the form of {task.name}'s "
            f"({in_a_line(error)}); --config.evaluation.simulator_check=0 does not "
            "try it"
        ) from error
    finally:
        environment.close()
    return next_states, rewards


def has_settable_states(gymnasium_id: str) -> bool:
    """Whether an environment has MuJoCo's `set_state`, which `step_from` calls.

    Raises:
      ConfigError: Gymnasium cannot make the environment.
    """
    with make_environment(gymnasium_id) as environment:
        return callable(_attribute(environment.unwrapped, "set_state"))


def record(
    act: Act,
    task: Task,
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectories:
    """Record one whole episode per seed, in the order of the seeds.

    Each environment runs exactly one episode, and every episode counts: taking the first E episodes
    to finish would favour short ones.

    Args:
      act: the policy. Each call gets all E observations and last rewards; those of ended episodes
        are 0, and their actions are ignored.
      task: gives the simulator and the episode limit.
      seeds: (E,) seeds of the environments' start states.
      on_progress: called with (time, episode limit) every 50 steps.
    """
    steps = []
    with Fleet(task.gymnasium_id) as fleet:
        for step in fleet.play(act, seeds, task.episode_limit):
            steps.append(step)
            if len(steps) % 50 == 0:
                on_progress(len(steps), task.episode_limit)
    running, *columns = map(np.concatenate, zip(*steps, strict=True))
    order = np.argsort(running, kind="stable")  # by episode, then by time
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    return from_columns(
        lengths=np.bincount(running, minlength=len(seeds)),
        origin=np.full(len(running), -1),  # these states are not in a dataset
        **{name: column[order] for name, column in zip(names, columns, strict=True)},
    )


def episode_seeds(student_seed: int, episodes: int) -> list[int]:
    """Seeds of a student's evaluation episodes, the same for every method."""
    return [1_000_003 * (student_seed + 1) + episode for episode in range(episodes)]


@functools.cache  # a run calls it for each of its methods
def control_hz(gymnasium_id: str) -> float | None:
    """Actions per second of an environment's time; None if the environment does not specify it.

    The seconds per step are `dt` in MuJoCo's environments, `tau` or `dt` in the classic ones.

    Raises:
      ConfigError: Gymnasium cannot make the environment.
    """
    with make_environment(gymnasium_id) as environment:
        steps = [_attribute(environment.unwrapped, name) for name in ("dt", "tau")]
    numbers = [float(one) for one in steps if isinstance(one, int | float | np.number)]
    seconds = [one for one in numbers if one > 0 and math.isfinite(one)]
    return 1 / seconds[0] if seconds else None


def _attribute(environment: Any, name: str) -> Any:
    """An attribute of an environment; None if it has none of that name, or a property fails."""
    try:
        return getattr(environment, name, None)
    except Exception:  # a property is code of the environment's author
        return None
