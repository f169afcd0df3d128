"""Coordinates of the states in a window: absolute, or relative to the present state."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf


@struct.dataclass
class StateCoordinates:
    """Maps normalised states to the numbers that a diffuser is trained on, and back.

    Absolute (the paper): the normalised states themselves. Relative: the present state is kept, and
    every other state becomes its difference from it, divided by the root mean square of
    differences over as many steps in the data. One step changes a state by a fraction of its
    spread, so an error of the same size in the diffuser's numbers is a several times smaller error
    in the next state.

    With a residual, only the next state becomes its difference from the mean next state, divided by
    the root mean square of these differences. This removes the change that occurs whatever the
    action, so the part that an action chooses fills the range.

    Shapes are those of one seed; several seeds add a leading axis.

    Attributes:
      scale: (H, m) by distance from the present; row 0 is the present itself.
      low, high: (H, m) range of the data in these coordinates, by distance. Samples are clipped.
      residual: the coordinates of the next state, or None.
      relative: whether the coordinates are relative.
    """

    scale: Leaf
    low: Leaf
    high: Leaf
    residual: "Residual | None"
    relative: bool = struct.field(pytree_node=False)

    def encode(
        self,
        states: Float[Array, "batch horizon state"],
        present: Float[Array, "batch state"],
        current: Int[Array, " batch"],
    ) -> Float[Array, "batch horizon state"]:
        """Coordinates of a window's states, whose present state is at position `current`."""
        origin, scale = self._origin_and_scale(states.shape[1], present, current)
        return (states - origin) / scale

    def decode(
        self,
        tokens: Float[Array, "batch horizon state"],
        present: Float[Array, "batch state"],
        current: Int[Array, " batch"],
    ) -> Float[Array, "batch horizon state"]:
        """Normalised states from a window's coordinates, the inverse of `encode`."""
        origin, scale = self._origin_and_scale(tokens.shape[1], present, current)
        return tokens * scale + origin

    def bounds(
        self, horizon: int, current: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch horizon state"], Float[Array, "batch horizon state"]]:
        """The range of every coordinate in a window."""
        distance = _distance(horizon, current)
        low, high = jnp.asarray(self.low)[distance], jnp.asarray(self.high)[distance]
        if self.residual is None:
            return low, high
        most = jnp.asarray(self.residual.most)[None, None]
        is_next = _is_next(horizon, current)
        return jnp.where(is_next, -most, low), jnp.where(is_next, most, high)

    def _origin_and_scale(self, horizon, present, current):
        distance = _distance(horizon, current)
        origin = self.relative * present[:, None] * (distance > 0)[:, :, None]
        scale = jnp.asarray(self.scale)[distance]
        if self.residual is None:
            return origin, scale
        is_next = _is_next(horizon, current)
        origin = jnp.where(is_next, self.residual.mean(present)[:, None], origin)
        return origin, jnp.where(is_next, jnp.asarray(self.residual.scale)[None, None], scale)


@struct.dataclass
class Residual:
    """The next state as its difference from the mean next state, E[s' | s].

    Attributes:
      baseline: predicts E[s' | s] as `next_state`, raw units.
      states: normaliser of states.
      scale: (m,) root mean square of the difference, normalised units.
      most: (m,) the bound of its absolute value, in units of `scale`.
    """

    baseline: Any
    states: Normalizer
    scale: Leaf
    most: Leaf

    def mean(self, present: Float[Array, "batch state"]) -> Float[Array, "batch state"]:
        """E[s' | s] in normalised units."""
        raw = self.baseline.next_state(self.states.unnormalize(present))
        return self.states.normalize(raw)


def _distance(horizon: int, current: Array) -> Array:
    return jnp.abs(jnp.arange(horizon)[None] - current[:, None])


def _is_next(horizon: int, current: Array) -> Array:
    """(batch, horizon, 1): whether this is the position after the present one."""
    return (jnp.arange(horizon)[None] == current[:, None] + 1)[:, :, None]


def fit_coordinates(
    trajectories: Trajectories, normalizer: Normalizer, horizon: int, relative: bool
) -> StateCoordinates:
    """Fit the coordinates to a dataset, for windows of `horizon` tokens, without a residual.

    Args:
      trajectories: the dataset.
      normalizer: of its states.
      horizon: H.
      relative: whether states are differences from the present one.
    """
    size = trajectories.observations.shape[1]
    if not relative:
        one = np.ones((horizon, size), np.float32)
        low, high = np.asarray(normalizer.low), np.asarray(normalizer.high)
        return StateCoordinates(
            one, np.tile(low, (horizon, 1)), np.tile(high, (horizon, 1)), None, relative
        )
    states = np.asarray(normalizer.normalize(trajectories.observations))
    following = np.asarray(normalizer.normalize(trajectories.next_observations))
    left = np.repeat(np.cumsum(trajectories.lengths), trajectories.lengths) - np.arange(len(states))
    rows = [(np.ones(size), states.min(0), states.max(0))]
    for distance in range(1, horizon):
        index = np.flatnonzero(left >= distance)
        if not len(index):  # no episode is that long, so no window has data there
            rows.append(rows[-1])
            continue
        change = following[index + distance - 1] - states[index]
        scale = _root_mean_square(change)
        # Differences to earlier states have the opposite sign, so the range is symmetric.
        extreme = np.abs(change / scale).max(0)
        rows.append((scale, -extreme, extreme))
    scale, low, high = (np.stack(column).astype(np.float32) for column in zip(*rows, strict=True))
    return StateCoordinates(scale, low, high, None, relative)


def _root_mean_square(change: np.ndarray) -> np.ndarray:
    """(m,) float64, the unit of (N, m) changes; 1 for a dimension that does not change.

    Not their deviation: a dimension that moves steadily, as a clock does, has next to none, and its
    changes in units of it would be huge.
    """
    scale = np.sqrt(np.square(change, dtype=np.float64).mean(0))
    return np.where(scale > 1e-6, scale, 1.0)


def fit_residual(trajectories: Trajectories, normalizer: Normalizer, baseline: Any) -> Residual:
    """Fit the coordinates of the next state as a difference from E[s' | s].

    Args:
      trajectories: the dataset.
      normalizer: of its states.
      baseline: of one seed; predicts E[s' | s] as `next_state`.
    """

    def mean(states):
        return normalizer.normalize(baseline.next_state(normalizer.unnormalize(states)))

    states = normalizer.normalize(trajectories.observations)
    following = np.asarray(normalizer.normalize(trajectories.next_observations))
    left = following - in_batches(jax.jit(mean), np.asarray(states))
    scale = _root_mean_square(left).astype(np.float32)
    # With heavy tails, the most extreme 1 in 10,000 would leave room for absurd samples.
    most = np.quantile(np.abs(left / scale), 0.9999, axis=0).astype(np.float32)
    return Residual(baseline, normalizer, scale, most)
