"""Histories: the last K time steps before and with a transition, padded where an episode begins.

For models that act by what they remember. The transitions lie on the device as they are; only the
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
    """All transitions of a dataset, episodes end to end; of a history (B, K, …) instead of (N, …).

    Attributes:
      returns: (N,) undiscounted return from this step to the episode's end, in units of a scale.
      states: (N, m) standardised.
      actions: (N, n) in [-1, 1].
      times: (N,) int32, steps since the episode's start.
    """

    returns: Leaf
    states: Leaf
    actions: Leaf
    times: Leaf


class History(NamedTuple):
    """K time steps of each of a batch, the present one last.

    Attributes:
      steps: (B, K, …).
      exists: (B, K) false before an episode's start: padding, whose content does not count.
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
    """A dataset as such a model sees it, on the host.

    Args:
      recorded: the dataset, raw units.
      mean, deviation: (m,) by which states are standardised.
      bounds: of the actions; what lies outside is moved to them.
      return_scale: what returns are divided by.
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
    """The K = `context` time steps up to and with each of those transitions, padded on the left."""
    back = jnp.arange(context - 1, -1, -1)[None]
    time = jnp.asarray(steps.times)[present][:, None]
    index = present[:, None] - jnp.minimum(back, time)
    gathered = jax.tree.map(lambda column: jnp.asarray(column)[index], steps)
    return History(gathered, back <= time)
