"""Episodes in the simulator, run in lockstep so that a policy acts on all at once (section 6)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import gymnasium
import mujoco
import numpy as np

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task

# (observations (E, m), time) -> actions (E, n)
Act = Callable[[np.ndarray, int], np.ndarray]


def make_environment(task: Task) -> gymnasium.Env:
    """The task's simulator, silent about newer versions: -v4 is the one D4RL's scores refer to."""
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    try:
        # Newer MuJoCo warns of an attribute in HalfCheetah's model, once for each environment.
        with without_warnings():
            return gymnasium.make(task.gymnasium_id, disable_env_checker=True)
    finally:
        gymnasium.logger.min_level = level


@contextmanager
def without_warnings() -> Iterator[None]:
    """MuJoCo says nothing, neither on the screen nor into a file in the current folder."""
    mujoco.set_mju_user_warning(lambda _message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def record(
    act: Act,
    task: Task,
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectories:
    """One whole episode for each seed, in the order of the seeds.

    Every episode that is begun is counted, and each environment runs exactly one: taking the first
    E episodes to finish would favour short ones.

    Args:
      act: the policy. It is asked about all E observations each time; those of episodes that have
        ended are stale, and their actions are ignored.
      task: which simulator.
      seeds: of the environments' start states.
      on_progress: called with (time, episode limit) now and then.
    """
    environments = [make_environment(task) for _ in seeds]
    observations = np.stack(
        [env.reset(seed=int(seed))[0] for env, seed in zip(environments, seeds, strict=True)]
    )
    episodes: list[list[tuple]] = [[] for _ in seeds]
    running = list(range(len(seeds)))
    time = 0
    while running:
        actions = np.asarray(act(observations, time))
        still = []
        for e in running:
            action = actions[e].astype(np.float64)
            observation, reward, terminated, truncated, _ = environments[e].step(action)
            episodes[e].append((observations[e].copy(), action, reward, observation, terminated))
            observations[e] = observation
            if not (terminated or truncated):
                still.append(e)
        running = still
        time += 1
        if time % 50 == 0:
            on_progress(time, task.episode_limit)
    for env in environments:
        env.close()
    columns = zip(*(step for episode in episodes for step in episode), strict=True)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    return from_columns(
        lengths=[len(episode) for episode in episodes],
        **{name: np.array(column) for name, column in zip(names, columns, strict=True)},
    )


def rollout(
    act: Act,
    task: Task,
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(E,) undiscounted returns of the episodes of `record`."""
    return record(act, task, seeds, on_progress).returns()


def episode_seeds(student_seed: int, episodes: int) -> list[int]:
    """Seeds of a student's evaluation episodes: the same for every method, so that they compare."""
    return [1_000_003 * (student_seed + 1) + episode for episode in range(episodes)]


def evaluate_students(
    policies: Sequence[Callable[[np.ndarray], np.ndarray]],
    task: Task,
    student_seeds: Sequence[int],
    episodes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(seeds, episodes) returns of one policy for each student seed, all episodes in lockstep."""

    def act(observations, _time):
        blocks = np.split(observations, len(policies))
        return np.concatenate([p(block) for p, block in zip(policies, blocks, strict=True)])

    seeds = [e for seed in student_seeds for e in episode_seeds(seed, episodes)]
    return rollout(act, task, seeds, on_progress).reshape(len(policies), episodes)
