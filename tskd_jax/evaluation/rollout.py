"""Returns of policies in the simulator (section 6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tskd_jax.envs.simulator import Act, Actor, episode_seeds, record
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, NOT_NEGATIVE, between, field
from tskd_jax.policy import Policy


@dataclass(frozen=True)
class Config:
    """`config.evaluation`."""

    episodes: int = field(10, COUNT, "episodes a seed (section 6)")
    teacher_episodes: int = field(0, NOT_NEGATIVE, "episodes planned by DDR-I itself")
    simulator_check: int = field(
        2000,
        NOT_NEGATIVE,
        "transitions tried in the simulator, of the dataset (at most 500) and "
        "of what is imagined; 0: none",
    )
    held_out: float = field(
        0.0, between(0, 0.9), "share of the episodes that nothing is trained on, to compare with"
    )
    visited_states: int = field(
        0, NOT_NEGATIVE, "of each student in the learned world, looked for in the data; 0: none"
    )


def rollout(
    act: Act,
    task: Task,
    seeds: Sequence[int],
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(E,) undiscounted returns of the episodes of `record`."""
    return record(act, task, seeds, on_progress).returns()


def evaluate_students(
    policies: Sequence[Policy | Actor],
    task: Task,
    student_seeds: Sequence[int],
    episodes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(seeds, episodes) returns of one policy for each student seed, all episodes in lockstep."""

    acts = [_start(policy) for policy in policies]

    def act(observations, time, rewards):
        # The last state of an episode that has ended is asked about, too, and may be no number.
        blocks = np.split(np.nan_to_num(observations), len(acts))
        gained = np.split(rewards, len(acts))
        return np.concatenate(
            [one(block, time, last) for one, block, last in zip(acts, blocks, gained, strict=True)]
        )

    seeds = [episode for student in student_seeds for episode in episode_seeds(student, episodes)]
    return rollout(act, task, seeds, on_progress).reshape(len(policies), episodes)


def _start(policy: Policy | Actor) -> Act:
    """What plays the episodes of one student seed."""
    if isinstance(policy, Actor):
        return policy.start()
    return lambda observations, _time, _rewards: policy(observations)
