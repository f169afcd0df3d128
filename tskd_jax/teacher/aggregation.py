"""Data aggregation: the states that students visit in the learned world.

Not in the paper. A student imitates its teacher in states that the teacher chose, and errs in the
states that its own actions lead to. The teacher corrects it by labelling those states as well, in
one or more rounds (DAgger, Ross et al. 2011; here without a simulator).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np

from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, NOT_NEGATIVE, field
from tskd_jax.models import referee
from tskd_jax.models.world import World
from tskd_jax.policy import Policy
from tskd_jax.training import seeds


@dataclass(frozen=True)
class Config:
    """`config.aggregation`."""

    rounds: int = field(
        0,
        NOT_NEGATIVE,
        "times that students are rolled out in the learned world, the teacher's steps from where "
        "they go join the data, and new students are trained",
    )
    episodes: int = field(10, COUNT, "of each student in a round")
    states: int = field(12_000, COUNT, "most visited states that the teacher is asked in a round")


def visited_states(
    config: Config,
    worlds: World,
    policies: Sequence[Policy],
    task: Task,
    starts: np.ndarray,
    keys: jax.Array,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Some of the states in which students act, for each seed of the pipeline.

    Args:
      config: how many episodes and states.
      worlds: S worlds, as leading axis.
      policies: if S = 1, all belong to that seed; else one for each seed.
      task: the termination rule and the episode limit.
      starts: (E, m) recorded initial states.
      keys: (S,).

    Returns:
      ((S, n, m) states, raw units; for each seed the mean normalised score and mean length of the
      rollouts).
    """
    count = len(keys)
    own = referee.of_each_seed(policies, count)
    found, metrics = [], []
    for index in range(count):
        start_key, member_key, state_key = jax.random.split(keys[index], 3)
        chosen = jax.random.randint(start_key, (config.episodes,), 0, len(starts))
        verdict = referee.judge(
            seeds.of_seed(worlds, index),
            *(own[index], task, starts[np.asarray(chosen)], member_key, True),
        )
        states = verdict.visited()
        found.append(states[np.asarray(jax.random.permutation(state_key, len(states)))])
        metrics.append(
            {
                "score": float(task.normalized_score(verdict.returns).mean()),
                "steps": float(verdict.lengths.mean()),
            }
        )
    each = min([config.states, *map(len, found)])
    return np.stack([states[:each] for states in found]), metrics
