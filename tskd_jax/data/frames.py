"""Coordinates of the states in a window: absolute, or relative to the present."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.types import Leaf


@struct.dataclass
class Frame:
    """How normalised states become numbers that a diffuser sees, and back.

    Absolute (the paper): they are those numbers. Relative: the present state is, all others are
    their difference from it, divided by the deviation that differences over so many steps have in
    the data. One step changes a state by a fraction of its spread, so that an error of the same
    size in the diffuser's numbers is a several times smaller error in the next state.

    Attributes:
      scale: (H, m) by distance from the present; row 0 is the present itself.
      low, high: (H, m) range of the data in these coordinates, by distance. Samples are clipped.
      relative: which of the two.
    """

    scale: Leaf
    low: Leaf
    high: Leaf
    relative: bool = struct.field(pytree_node=False)

    def encode(
        self,
        states: Float[Array, "batch horizon state"],
        present: Float[Array, "batch state"],
        current: Int[Array, " batch"],
    ) -> Float[Array, "batch horizon state"]:
        """Coordinates of a window's states, whose present state stands at position `current`."""
        distance = _distance(states.shape[1], current)
        return (states - self._origin(present, distance)) / jnp.asarray(self.scale)[distance]

    def decode(
        self,
        tokens: Float[Array, "batch horizon state"],
        present: Float[Array, "batch state"],
        current: Int[Array, " batch"],
    ) -> Float[Array, "batch horizon state"]:
        """Normalised states of a window's coordinates, the inverse of `encode`."""
        distance = _distance(tokens.shape[1], current)
        return tokens * jnp.asarray(self.scale)[distance] + self._origin(present, distance)

    def bounds(
        self, horizon: int, current: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch horizon state"], Float[Array, "batch horizon state"]]:
        """The range of every coordinate of a window."""
        distance = _distance(horizon, current)
        return jnp.asarray(self.low)[distance], jnp.asarray(self.high)[distance]

    def _origin(self, present, distance):
        return self.relative * present[:, None] * (distance > 0)[:, :, None]


def _distance(horizon: int, current: Array) -> Array:
    return jnp.abs(jnp.arange(horizon)[None] - current[:, None])


def fit_frame(
    trajectories: Trajectories, normalizer: Normalizer, horizon: int, relative: bool
) -> Frame:
    """The frame of a dataset for windows of that many tokens."""
    size = trajectories.observations.shape[1]
    if not relative:
        one = np.ones((horizon, size), np.float32)
        low, high = np.asarray(normalizer.low), np.asarray(normalizer.high)
        return Frame(one, np.tile(low, (horizon, 1)), np.tile(high, (horizon, 1)), relative)
    states = np.asarray(normalizer.normalize(trajectories.observations))
    following = np.asarray(normalizer.normalize(trajectories.next_observations))
    left = np.repeat(np.cumsum(trajectories.lengths), trajectories.lengths) - np.arange(len(states))
    rows = [(np.ones(size), states.min(0), states.max(0))]
    for distance in range(1, horizon):
        index = np.flatnonzero(left >= distance)
        if not len(index):  # no episode is that long: nothing will be measured there either
            rows.append(rows[-1])
            continue
        change = following[index + distance - 1] - states[index]
        deviation = change.std(0)
        deviation = np.where(deviation > 1e-6, deviation, 1.0)
        # History is a difference of the other sign.
        extreme = np.abs(change / deviation).max(0)
        rows.append((deviation, -extreme, extreme))
    scale, low, high = (np.stack(column).astype(np.float32) for column in zip(*rows, strict=True))
    return Frame(scale, low, high, relative)
