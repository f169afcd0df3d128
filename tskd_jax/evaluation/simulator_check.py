"""Whether imagined transitions are possible: a comparison with the simulator."""

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
    """How far claimed next states are from what the inverse dynamics' actions really lead to.

    Args:
      task: the simulator.
      inverse_dynamics: a = f(s, s') of one seed.
      claimed: transitions (s, ·, ·, s').
      deviation: (m,) of the recorded states; errors are in units of it.
      count: transitions tried, drawn without replacement.
      seed: of the draw.

    Returns:
      error: root mean square of (s' - simulator's) / deviation; nothing_moves: the same for the
      claim s' = s, which an error must be clearly below to mean anything.
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
