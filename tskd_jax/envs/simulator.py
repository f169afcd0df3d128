"""The simulators: make one, and record whole episodes of a policy in it."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import gymnasium
import mujoco
import numpy as np

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError

# (observations (E, m), time, rewards (E,) of the last step) -> actions (E, n)
Act = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


@runtime_checkable
class Actor(Protocol):
    """What plays with a memory, or plans: all that is not a `Policy`."""

    @property
    def parameters(self) -> int:
        """Numbers in all networks that it acts by."""
        ...

    def start(self) -> Act:
        """To play some episodes in lockstep, from time 0."""
        ...


def make_environment(gymnasium_id: str, **options: Any) -> gymnasium.Env:
    """An environment of Gymnasium, whose Dict observations are vectors in the order of the space.

    It says nothing of newer versions: D4RL's scores refer to -v4.

    Raises:
      ConfigError: Gymnasium does not know it, or cannot make it.
    """
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    try:
        # Newer MuJoCo warns of an attribute in HalfCheetah's model, once for each environment.
        with without_warnings():
            made = gymnasium.make(gymnasium_id, disable_env_checker=True, **options)
    except Exception as error:  # what an environment needs, it says in its own way
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{gymnasium_id}: Gymnasium cannot make it ({type(error).__name__}: {reason}); see "
            "gymnasium.pprint_registry(), and MODULE:ID for an environment of a package"
        ) from error
    finally:
        gymnasium.logger.min_level = level
    if isinstance(made.observation_space, gymnasium.spaces.Dict):
        return gymnasium.wrappers.FlattenObservation(made)
    return made


@contextmanager
def without_warnings() -> Iterator[None]:
    """MuJoCo writes no warnings, neither to the screen nor to a file in the current folder."""
    mujoco.set_mju_user_warning(lambda _message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def step_from(task: Task, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One step from each state.

    An observation is the whole state without the position along the track, on which nothing
    depends. Some observations clip velocities to ±10: there the state is not known exactly.

    Args:
      task: whose `position_size` is known.
      states: (N, m) observations.
      actions: (N, n).

    Returns:
      ((N, m) next states, of the states' type; (N,) rewards).
    """
    environment: Any = make_environment(task.gymnasium_id).unwrapped
    environment.reset(seed=0)
    cut = task.position_size
    next_states, rewards = np.zeros_like(states), np.zeros(len(states))
    # An impossible state makes MuJoCo warn and reset itself.
    with without_warnings():
        for i, (state, action) in enumerate(zip(states.astype(np.float64), actions, strict=True)):
            environment.set_state(np.concatenate([[0.0], state[:cut]]), state[cut:])
            next_states[i], rewards[i], *_ = environment.step(np.asarray(action, np.float64))
    environment.close()
    return next_states, rewards


def record(
    act: Act,
    task: Task,
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectories:
    """One whole episode for each seed, in the order of the seeds.

    Each environment runs exactly one episode, and every episode counts: taking the first E episodes
    to finish would favour short ones.

    Args:
      act: the policy. It is called with all E observations and last rewards each time; those of
        episodes that have ended are stale, and their actions are ignored.
      task: which simulator.
      seeds: (E,) of the environments' start states.
      on_progress: called with (time, episode limit) every 50 steps.
    """
    return record_in(
        task.gymnasium_id, act, seeds, lambda time: on_progress(time, task.episode_limit)
    )


def record_in(
    gymnasium_id: str,
    act: Act,
    seeds: Sequence[int],
    on_progress: Callable[[int], None] = lambda time: None,
) -> Trajectories:
    """The same in any environment of Gymnasium's; `on_progress` is called with the time."""
    with _seeded():
        return _record(gymnasium_id, act, seeds, on_progress)


def _record(
    gymnasium_id: str, act: Act, seeds: Sequence[int], on_progress: Callable[[int], None]
) -> Trajectories:
    environments = [make_environment(gymnasium_id) for _ in seeds]
    observations = np.stack(
        [start_episode(env, int(seed)) for env, seed in zip(environments, seeds, strict=True)]
    )
    episodes: list[list[tuple]] = [[] for _ in seeds]
    running = list(range(len(seeds)))
    time, rewards = 0, np.zeros(len(seeds))
    while running:
        actions = np.asarray(act(observations, time, rewards))
        still = []
        for e in running:
            action = actions[e].astype(np.float64)
            observation, reward, terminated, truncated, _ = environments[e].step(action)
            episodes[e].append((observations[e].copy(), action, reward, observation, terminated))
            observations[e], rewards[e] = observation, reward
            if not (terminated or truncated):
                still.append(e)
        running = still
        time += 1
        if time % 50 == 0:
            on_progress(time)
    for env in environments:
        env.close()
    lengths = [len(episode) for episode in episodes]
    columns = zip(*(step for episode in episodes for step in episode), strict=True)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    return from_columns(
        lengths=lengths,
        origin=np.full(sum(lengths), -1),  # of no dataset yet
        **{name: np.array(column) for name, column in zip(names, columns, strict=True)},
    )


@contextmanager
def _seeded() -> Iterator[None]:
    """NumPy's global generator is the caller's own again afterwards."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def start_episode(environment: gymnasium.Env, seed: int) -> np.ndarray:
    """The observation in which an episode starts.

    Some environments (OGBench's) draw from NumPy's global generator and from their own space of
    actions, which the seed of `reset` does not reach.
    """
    np.random.seed(seed % 2**32)
    environment.unwrapped.action_space.seed(seed)
    return environment.reset(seed=seed)[0]


def episode_seeds(student_seed: int, episodes: int) -> list[int]:
    """Seeds of a student's evaluation episodes: the same for every method."""
    return [1_000_003 * (student_seed + 1) + episode for episode in range(episodes)]


@functools.cache  # a run asks for each of its methods
def control_hz(gymnasium_id: str) -> float | None:
    """Actions for each second of an environment's time; None where it does not say.

    MuJoCo's environments have `dt`, the classic ones `tau` or `dt`, seconds of a step.

    Raises:
      ConfigError: Gymnasium cannot make it.
    """
    with make_environment(gymnasium_id) as environment:
        steps = [getattr(environment.unwrapped, name, None) for name in ("dt", "tau")]
    seconds = [one for one in steps if isinstance(one, int | float | np.number) and one > 0]
    return 1 / float(seconds[0]) if seconds else None
