"""Histories: the K time steps up to and including a transition, padded before the episode's start.

For models whose actions depend on past steps. The device stores each transition once; only the
histories of a batch are gathered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.types import Leaf
from tskd_jax.policy import Bounds


class Steps(NamedTuple):
    """All transitions of a dataset, episodes end to end; in a `History`, (B, K, …) replaces (N, …).

    Attributes:
      returns: (N,) undiscounted return from this step to the episode's end, divided by a scale.
      states: (N, m) standardised.
      actions: (N, n) in [-1, 1].
      times: (N,) int32, steps since the episode's start.
    """

    returns: Leaf
    states: Leaf
    actions: Leaf
    times: Leaf


class History(NamedTuple):
    """K time steps for each of a batch of transitions, the current step last.

    Attributes:
      steps: (B, K, …).
      exists: (B, K) bool, false before an episode's start, where the steps are padding.
    """

    steps: Steps
    exists: Leaf


def make_steps(
    recorded: Trajectories,
    mean: np.ndarray,
    deviation: np.ndarray,
    bounds: Bounds,
    return_scale: float,
) -> Steps:
    """Prepare a dataset for `history`, on the host.

    Args:
      recorded: the dataset, raw units.
      mean, deviation: (m,) mean and standard deviation that standardise states.
      bounds: bounds of the actions; actions outside are clipped.
      return_scale: divisor of the returns.
    """
    first = recorded.starts[recorded.episode_of]
    low, high = (np.array(end, np.float32)[None] for end in (bounds.low, bounds.high))
    actions = np.clip(2 * (recorded.actions - low) / (high - low) - 1, -1, 1)
    return Steps(
        returns=(recorded.returns_to_go(1.0) / return_scale).astype(np.float32),
        states=((recorded.observations - mean[None]) / deviation[None]).astype(np.float32),
        actions=actions.astype(np.float32),
        times=(np.arange(recorded.size) - first).astype(np.int32),
    )


def history(steps: Steps, present: Int[Array, " batch"], context: int) -> History:
    """Gather the K = `context` steps that end with each given transition, padded on the left."""
    back = jnp.arange(context - 1, -1, -1)[None]
    time = jnp.asarray(steps.times)[present][:, None]
    index = present[:, None] - jnp.minimum(back, time)
    gathered = jax.tree.map(lambda column: jnp.asarray(column)[index], steps)
    return History(gathered, back <= time)
