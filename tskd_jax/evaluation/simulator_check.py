"""Checks whether imagined transitions are possible, by comparison with the simulator."""

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import step_from
from tskd_jax.envs.tasks import Task
from tskd_jax.models.inverse_dynamics import InverseDynamics, actions_between


def check(
    task: Task,
    inverse_dynamics: InverseDynamics,
    claimed: Trajectories,
    deviation: np.ndarray,
    count: int,
    seed: int = 0,
) -> dict[str, float]:
    """Compare claimed next states with those that the inverse dynamics' actions lead to.

    Args:
      task: gives the simulator.
      inverse_dynamics: a = f(s, s') of one seed.
      claimed: transitions (s, ·, ·, s').
      deviation: (m,) standard deviation of the recorded states, the unit of the errors.
      count: maximum number of transitions, drawn without replacement.
      seed: seed of the draw.

    Returns:
      error: root mean square of (s' - simulator's) / deviation; nothing_moves: the same for the
      claim s' = s, a baseline that a meaningful error is clearly below; transitions: the number
      tried.
    """
    rows = np.random.default_rng(seed).permutation(claimed.size)[:count]
    states, next_states = claimed.observations[rows], claimed.next_observations[rows]
    actions = actions_between(inverse_dynamics, states, next_states)
    true, _ = step_from(task, states, actions)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def distance(guess):
        return float(np.sqrt(np.mean(((guess - true) / deviation) ** 2)))

    return {
        "error": distance(next_states),
        "nothing_moves": distance(states),
        "transitions": len(rows),
    }
