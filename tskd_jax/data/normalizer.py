"""Normalisers: maps from raw units to a range that suits networks, and back."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.errors import ConfigError
from tskd_jax.machine.types import Leaf

KINDS = ("limits", "cdf", "gaussian")
CDF_KNOTS = 512


@struct.dataclass
class Normalizer:
    """A monotone, piecewise linear map per dimension, given by its knots.

    All three kinds are such maps: `limits` and `gaussian` have two knots and extrapolate linearly;
    `cdf` has one knot per empirical quantile and clips outside them. A constant dimension is
    normalised to a constant and unnormalised to its own value.

    Attributes:
      raw: (K, m), increasing along K, in raw units.
      normal: (K, m), the images of `raw`.
      low, high: (m,), range of the normalised data. Samples are clipped to it.
      kind: one of `KINDS`.
    """

    raw: Leaf
    normal: Leaf
    low: Leaf
    high: Leaf
    kind: str = struct.field(pytree_node=False)

    def normalize(self, x: Float[Array | np.ndarray, "*batch dim"]) -> Float[Array, "*batch dim"]:
        """Convert raw units to normalised units."""
        return self._map(jnp.asarray(x), self.raw, self.normal)

    def unnormalize(self, x: Float[Array | np.ndarray, "*batch dim"]) -> Float[Array, "*batch dim"]:
        """Convert normalised units to raw units, inverting `normalize` on the data's range."""
        return self._map(jnp.asarray(x), self.normal, self.raw)

    def _map(self, x, source, target):
        if self.kind == "cdf":
            flat = x.reshape(-1, x.shape[-1])
            columns = [
                jnp.interp(flat[:, d], source[:, d], target[:, d]) for d in range(x.shape[-1])
            ]
            return jnp.stack(columns, -1).reshape(x.shape)
        lead = (1,) * (x.ndim - 1)
        width = source[1] - source[0]
        slope = jnp.where(width > 0, (target[1] - target[0]) / jnp.where(width > 0, width, 1), 0)
        shift = target[0].reshape((*lead, -1))
        return shift + (x - source[0].reshape((*lead, -1))) * slope.reshape((*lead, -1))


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of each column of (N, m) data, (m,) float64 each.

    Sums of millions of float32 would lose digits: the columns are summed in float64. The deviation
    of a constant column is exactly 0, and its mean is the constant.
    """
    low, varies = x.min(0), x.max(0) > x.min(0)
    mean, deviation = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    # Both can miss a constant column's by a rounding error.
    return np.where(varies, mean, low), np.where(varies, deviation, 0.0)


def fit_normalizer(kind: str, x: np.ndarray) -> Normalizer:
    """Fit a normaliser to (N, m) data.

    Args:
      kind: `limits` maps each dimension's minimum and maximum to -1 and 1; `cdf` maps its empirical
        quantiles evenly to [-1, 1] (Decision Diffuser); `gaussian` gives it a mean of 0 and a
        standard deviation of 1.
      x: (N, m), raw units.

    Raises:
      ConfigError: the kind is unknown.
    """
    x = np.asarray(x, np.float64)
    low, high = x.min(0), x.max(0)
    varies = high > low
    if kind == "limits":
        raw = np.stack([low, high])
        normal = np.stack([np.where(varies, -1.0, 0.0), np.where(varies, 1.0, 0.0)])
    elif kind == "gaussian":
        mean, deviation = moments(x)
        raw = np.stack([mean, mean + deviation])
        normal = np.stack([np.zeros_like(mean), np.where(varies, 1.0, 0.0)])
    elif kind == "cdf":
        levels = np.linspace(0, 1, CDF_KNOTS)
        raw = np.quantile(x, levels, axis=0)
        # Ties would make the map multi-valued: equal knots share the midpoint of their images.
        normal = np.broadcast_to(2 * levels[:, None] - 1, raw.shape).copy()
        for d in range(x.shape[1]):
            first = np.searchsorted(raw[:, d], raw[:, d], side="left")
            last = np.searchsorted(raw[:, d], raw[:, d], side="right") - 1
            normal[:, d] = (normal[first, d] + normal[last, d]) / 2
        normal = np.where(varies[None], normal, 0.0)
    else:
        raise ConfigError(f"normalizer {kind!r} is unknown; one of {', '.join(KINDS)}")
    fitted = Normalizer(
        raw=raw.astype(np.float32),
        normal=normal.astype(np.float32),
        low=low.astype(np.float32),
        high=high.astype(np.float32),
        kind=kind,
    )
    ends = np.asarray(fitted.normalize(np.stack([low, high]).astype(np.float32)))
    return fitted.replace(low=ends[0], high=ends[1])
