"""Whether imagined transitions are possible: a comparison with the simulator."""

from typing import Any

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import make_environment, without_warnings
from tskd_jax.envs.tasks import Task
from tskd_jax.models.inverse_dynamics import InverseDynamics, actions_between


def simulate(task: Task, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(N, m) next states of one step from each state.

    An observation is the whole state without the position along the track, on which nothing
    depends. Some observations clip velocities to ±10: there the state is not known exactly.

    Args:
      task: whose `position_size` is known.
      states: (N, m) observations.
      actions: (N, n).
    """
    environment: Any = make_environment(task.gymnasium_id).unwrapped
    environment.reset(seed=0)
    cut = task.position_size
    next_states = np.zeros_like(states)
    # An impossible state makes MuJoCo warn and reset itself.
    with without_warnings():
        for i, (state, action) in enumerate(zip(states.astype(np.float64), actions, strict=True)):
            environment.set_state(np.concatenate([[0.0], state[:cut]]), state[cut:])
            next_states[i] = environment.step(np.asarray(action, np.float64))[0]
    environment.close()
    return next_states


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
    true = simulate(task, states, actions_between(inverse_dynamics, states, next_states))
    deviation = np.where(deviation > 0, deviation, 1.0)

    def distance(guess):
        return float(np.sqrt(np.mean(((guess - true) / deviation) ** 2)))

    return {
        "error": distance(next_states),
        "nothing_moves": distance(states),
        "transitions": len(rows),
    }
