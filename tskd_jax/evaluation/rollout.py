"""Rolls policies out in the simulator and collects their returns (section 6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tskd_jax.envs.environment import acceptable
from tskd_jax.envs.fleet import Act, Fleet
from tskd_jax.envs.simulator import Actor, episode_seeds, record
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
        "transitions tried in the simulator: of the dataset (before anything is trained, at most "
        "500), and later of it, of what is imagined and of what of it is accepted; 0: none",
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
    """(E,) undiscounted returns of the episodes that `record` plays."""
    return record(act, task, seeds, on_progress).returns()


class Played(NamedTuple):
    """A summary of E episodes.

    Attributes:
      returns: (E,) float64, undiscounted.
      lengths: (E,) steps.
    """

    returns: np.ndarray
    lengths: np.ndarray


def play(
    act: Act,
    fleet: Fleet,
    seeds: Sequence[int],
    limit: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Played:
    """Play the same episodes as `record`, bit for bit, but keep only returns and lengths.

    Args:
      act: the policy, as in `record`.
      fleet: steps the environments, in any number of processes.
      seeds: (E,) seeds of the start states.
      limit: steps after which an episode is cut.
      on_progress: called with (time, limit) after each time step.
    """
    returns, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64)
    for time, step in enumerate(fleet.play(act, seeds, limit), 1):
        returns[step.running] += step.rewards.astype(np.float32)  # as `Trajectories` store them
        lengths[step.running] += 1
        on_progress(time, limit)
    return Played(returns, lengths)


def evaluate_students(
    policies: Sequence[Policy | Actor],
    task: Task,
    student_seeds: Sequence[int],
    episodes: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """(seeds, episodes) returns of one policy per student seed, all episodes in lockstep."""

    acts = [started(policy) for policy in policies]

    def act(observations, time, rewards):
        blocks = np.split(observations, len(acts))
        gained = np.split(rewards, len(acts))
        return np.concatenate(
            [one(block, time, last) for one, block, last in zip(acts, blocks, gained, strict=True)]
        )

    seeds = [episode for student in student_seeds for episode in episode_seeds(student, episodes)]
    return rollout(act, task, seeds, on_progress).reshape(len(policies), episodes)


def started(policy: Policy | Actor) -> Act:
    """A function that plays the episodes of one student; `acceptable` says what it observes."""
    if isinstance(policy, Actor):
        act = policy.start()
        return lambda observations, time, rewards: act(acceptable(observations), time, rewards)
    return lambda observations, _time, _rewards: policy(acceptable(observations))
