"""Episodes in the simulator, run in lockstep so that a policy acts on all at once (section 6)."""

from collections.abc import Callable, Sequence

import gymnasium
import numpy as np

from tskd_jax.tasks import Task

# (observations (E, m), time) -> actions (E, n)
Act = Callable[[np.ndarray, int], np.ndarray]


def make_environment(task: Task) -> gymnasium.Env:
    """The task's simulator, silent about newer versions: -v4 is the one D4RL's scores refer to."""
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    try:
        return gymnasium.make(task.gymnasium_id, disable_env_checker=True)
    finally:
        gymnasium.logger.min_level = level


def rollout(
    act: Act,
    task: Task,
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(E,) undiscounted returns of one whole episode for each seed.

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
    returns = np.zeros(len(seeds))
    running = list(range(len(seeds)))
    time = 0
    while running:
        actions = np.asarray(act(observations, time), np.float64)
        still = []
        for e in running:
            observation, reward, terminated, truncated, _ = environments[e].step(actions[e])
            observations[e] = observation
            returns[e] += float(reward)
            if not (terminated or truncated):
                still.append(e)
        running = still
        time += 1
        if time % 50 == 0:
            on_progress(time, task.episode_limit)
    for env in environments:
        env.close()
    return returns


def episode_seeds(student_seed: int, episodes: int) -> list[int]:
    """Seeds of a student's evaluation episodes: the same for every method, so that they compare."""
    return [1_000_003 * (student_seed + 1) + episode for episode in range(episodes)]
