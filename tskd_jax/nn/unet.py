"""The temporal U-Net of Decision Diffuser (section 3, Appendix B)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tskd_jax.nn.convolution import Conv1d, Downsample, Upsample

GROUPS = 8  # of GroupNorm (Decision Diffuser)


def mish(x: Array) -> Array:
    """x · tanh(softplus(x)) (Misra 2019), with one exponential instead of three.

    tanh(ln(1 + e^x)) = (e^2x + 2 e^x) / (e^2x + 2 e^x + 2). Above 20 it is 1 to float32's last
    digit, so x is clipped there to keep the exponential from overflowing.
    """
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2.0)
    return x * (n / (n + 2.0))


def sinusoidal_embedding(step: Int[Array, " rows"], size: int) -> Float[Array, "rows size"]:
    """sin and cos of k · exp(-i ln(10000)/(size/2 - 1)), i < size/2; sines first."""
    half = size // 2
    frequencies = jnp.exp(jnp.arange(half) * (-math.log(10000.0) / (half - 1)))
    angles = step.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


class ConvBlock(nn.Module):
    """conv → GroupNorm → Mish."""

    features: int
    kernel_size: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch time in"]) -> Float[Array, "batch time out"]:
        x = Conv1d(self.features, self.kernel_size, dtype=self.dtype)(x)
        return mish(nn.GroupNorm(num_groups=GROUPS, epsilon=1e-5, dtype=self.dtype)(x))


def _in_turn(rows: Float[Array, "rows emb"], count: int) -> Float[Array, "count emb"]:
    """`count` rows, a multiple of those given, which repeat in turn."""
    return rows if len(rows) == count else jnp.tile(rows, (count // len(rows), 1))


class ResidualBlock(nn.Module):
    """Two ConvBlocks with the embedding added in between, around a skip connection.

    Row i of x has embedding i mod E, where E divides the batch.
    """

    features: int
    kernel_size: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch time in"], embedding: Float[Array, "rows emb"]
    ) -> Float[Array, "batch time out"]:
        h = ConvBlock(self.features, self.kernel_size, self.dtype)(x)
        shift = nn.Dense(self.features, dtype=self.dtype)(mish(embedding))
        h += _in_turn(shift, len(h))[:, None]
        h = ConvBlock(self.features, self.kernel_size, self.dtype)(h)
        if x.shape[-1] != self.features:
            x = Conv1d(self.features, 1, dtype=self.dtype, name="skip")(x)
        return h + x


def encode_time(size: int, step: Int[Array, " rows"], dtype: Any) -> Float[Array, "rows emb"]:
    """Embed the diffusion step in `size` numbers, by an MLP with 4 · `size` hidden units.

    To be called inside a module.
    """

    def dense(n):
        return nn.Dense(n, dtype=dtype)

    # Keep this order: it determines the names of the layers, and with them their initial weights.
    return dense(size)(mish(dense(4 * size)(sinusoidal_embedding(step, size))))


def descend(
    channels: Sequence[int],
    residual: Callable[[int, Array], Array],
    x: Float[Array, "batch horizon dim"],
    dtype: Any,
) -> tuple[Array, list[Array]]:
    """The first half of a U-Net: its levels and the middle; to be called inside a module.

    Args:
      channels: channels of each level.
      residual: (channels, h) -> h, one residual block.
      x: the input; H is padded here on the right with zeros to a multiple of 2^(levels - 1).
      dtype: of the computation.

    Returns:
      (h (B, H / 2^(levels - 1), channels[-1]), the output of each level before it is halved).
    """
    multiple = 2 ** (len(channels) - 1)
    h, skips = jnp.pad(x, ((0, 0), (0, -x.shape[1] % multiple), (0, 0))), []
    for level, n in enumerate(channels):
        h = residual(n, residual(n, h))
        skips.append(h)
        if level < len(channels) - 1:
            h = Downsample(n, dtype=dtype)(h)
    return residual(channels[-1], residual(channels[-1], h)), skips


class TemporalUNet(nn.Module):
    """Predicts the noise in a sequence, given the diffusion step and optionally a condition.

    It has as many output as input channels. With the defaults, 59.7 M parameters (Table 3).

    Attributes:
      features: F, channels of the first level and size of both embeddings; divisible by 8.
      multipliers: channels of each level, in units of F. The horizon is halved between levels, and
        padded on the right with zeros to a multiple of 2^(levels - 1).
      kernel_size: of the residual blocks' convolutions; odd.
      dtype: of the computation (parameters are float32). None: that of the input.
    """

    features: int = 128
    multipliers: Sequence[int] = (1, 4, 8)
    kernel_size: int = 5
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch horizon dim"],
        step: Int[Array, " steps"],
        condition: Float[Array, " rows"] | None = None,
        keep_condition: Float[Array, " rows"] | None = None,
    ) -> Float[Array, "batch horizon dim"]:
        """The noise in x.

        A sampler asks for one step, and often one y, for the whole batch. Embedding them for every
        row would be a third of the work of a small network.

        Args:
          x: (B, H, D) noisy sequence.
          step: (B,) or (1,) diffusion step k in [0, K).
          condition: (E,) y, where E divides B: row i of x has condition i mod E. None: the network
            has no such input, and no parameters for it.
          keep_condition: (E,) 1 for ε(x, y, k), 0 for ε(x, ∅, k). It masks the embedding after
            the MLP, so that "no condition" is a zero embedding, not the embedding of y = 0.
        """
        size, (_, horizon, dim) = self.features, x.shape
        channels = [size * m for m in self.multipliers]

        def dense(n):
            return nn.Dense(n, dtype=self.dtype)

        def residual(n, h):
            return ResidualBlock(n, self.kernel_size, self.dtype)(h, embedding)

        embedding = encode_time(size, step, self.dtype)
        if condition is not None and keep_condition is not None:
            y = dense(4 * size)(mish(dense(size)(condition[:, None])))
            y = dense(size)(mish(y)) * keep_condition[:, None]
            rows = max(len(embedding), len(y))
            both = embedding, y.astype(embedding.dtype)
            embedding = jnp.concatenate([_in_turn(part, rows) for part in both], -1)

        h, skips = descend(channels, residual, x, self.dtype)
        for n, skip in zip(reversed(channels[:-1]), reversed(skips[1:]), strict=True):
            h = jnp.concatenate([h, skip], -1)
            h = residual(n, residual(n, h))
            h = Upsample(n, dtype=self.dtype)(h)
        h = ConvBlock(size, self.kernel_size, self.dtype)(h)
        h = Conv1d(dim, 1, dtype=self.dtype, name="out")(h)
        return h[:, :horizon].astype(x.dtype)


class TemporalValue(nn.Module):
    """Maps a noisy sequence to a number: the first half of a `TemporalUNet` and a linear layer.

    Like the return predictor of Diffuser (Janner et al. 2022, Appendix C).

    Attributes:
      features, multipliers, kernel_size, dtype: as for `TemporalUNet`.
    """

    features: int = 32
    multipliers: Sequence[int] = (1, 2, 4, 8)
    kernel_size: int = 5
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch horizon dim"], step: Int[Array, " steps"]
    ) -> Float[Array, " batch"]:
        """(B,) the number for x (B, H, D), noised to diffusion step k (B,) or (1,) in [0, K)."""
        embedding = encode_time(self.features, step, self.dtype)

        def residual(n, h):
            return ResidualBlock(n, self.kernel_size, self.dtype)(h, embedding)

        h, _ = descend([self.features * m for m in self.multipliers], residual, x, self.dtype)
        h = jnp.concatenate([h.reshape(len(h), -1), _in_turn(embedding, len(h))], -1)
        return nn.Dense(1, dtype=self.dtype)(h)[:, 0].astype(x.dtype)
