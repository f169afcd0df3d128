"""A small causal transformer: GPT-2's blocks (Radford et al. 2019), normalised before each part.

It takes embedded tokens, whatever they mean. Tokens are processed all at once, or one after another
with a cache of the keys and values of earlier ones.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INIT = nn.initializers.normal(0.02)  # for all weights, as in GPT-2
HIDDEN = 4  # width of a block's hidden layer, in widths of a token
# Finite, so that the softmax of a token that may attend to nothing (padding) is not NaN.
NEVER = -1e9


class Kept(NamedTuple):
    """Keys and values of one layer for the tokens so far, with L places.

    Attributes:
      keys, values: (batch, heads, L, width of a head). A place without a token may hold anything,
        because no token attends to a place after its own. Heads come before places, the order in
        which they are multiplied: on a CPU, decoding is four times as fast as in the other order.
    """

    keys: Any
    values: Any


Cache = tuple[Kept, ...]  # one for each layer


class Attention(nn.Module):
    """Causal multi-head self-attention.

    Attributes:
      heads: number of heads; divides the width.
      dropout: rate, for the attention weights and for the output.
    """

    heads: int
    dropout: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        past: Kept | None,
        position: int | Int[Array, ""],
        visible: Bool[Array, "_ places"],
        train: bool,
    ) -> tuple[Float[Array, "batch tokens width"], Kept]:
        """Arguments as for `Transformer`; `past` holds the keys and values of this layer."""
        batch, tokens, width = x.shape
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        projected = nn.Dense(3 * width, kernel_init=INIT, name="query_key_value")(x)
        projected = projected.reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = jnp.transpose(projected, (2, 0, 3, 1, 4))
        if past is not None:
            key, value = (
                jax.lax.dynamic_update_slice_in_dim(old, new, position, 2)
                for old, new in zip(past, (key, value), strict=True)
            )
        places = jnp.arange(key.shape[2])
        before = places[None] <= (position + jnp.arange(tokens))[:, None]
        allowed = before[None, None] & visible[:, None, None]
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / jnp.sqrt(query.shape[-1])
        weights = dropout(jax.nn.softmax(jnp.where(allowed, scores, NEVER), -1))
        mixed = jnp.einsum("bhqk,bhkd->bqhd", weights, value).reshape(x.shape)
        return dropout(nn.Dense(width, kernel_init=INIT, name="output")(mixed)), Kept(key, value)


class Block(nn.Module):
    """x + attention(norm(x)), then x + hidden layer(norm(x)); attributes as for `Transformer`."""

    heads: int
    activation: Callable[[Array], Array]
    dropout: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        past: Kept | None,
        position: int | Int[Array, ""],
        visible: Bool[Array, "_ places"],
        train: bool,
    ) -> tuple[Float[Array, "batch tokens width"], Kept]:
        width = x.shape[-1]
        attended, present = Attention(self.heads, self.dropout, name="attention")(
            nn.LayerNorm(epsilon=1e-5)(x), past, position, visible, train
        )
        x += attended
        h = nn.Dense(HIDDEN * width, kernel_init=INIT, name="hidden")(nn.LayerNorm(epsilon=1e-5)(x))
        h = nn.Dense(width, kernel_init=INIT, name="output")(self.activation(h))
        return x + nn.Dropout(self.dropout, deterministic=not train)(h), present


class Transformer(nn.Module):
    """Blocks and a final layer normalisation.

    Attributes:
      layers: number of blocks.
      heads: number of heads of each block; divides the width of the tokens.
      activation: of the hidden layers.
      dropout: rate in training, for the tokens, the attention weights and the output of each part.
    """

    layers: int
    heads: int
    activation: Callable[[Array], Array] = nn.gelu
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch tokens width"],
        visible: Bool[Array, "_ places"],
        cache: Cache | None = None,
        position: int | Int[Array, ""] = 0,
        train: bool = False,
    ) -> tuple[Float[Array, "batch tokens width"], Cache]:
        """The outputs of tokens, each of which attends to itself and to those before it.

        Args:
          x: (B, T, width) embedded tokens.
          visible: (B or 1, L) which places may be attended to; padding may not. Without a cache, L
            is T. The output of a token that may attend to nothing is meaningless.
          cache: the tokens before these, with L places. None: these tokens are all.
          position: the place of the first of these tokens in the cache.
          train: whether dropout is applied, with the random stream `dropout`.

        Returns:
          ((B, T, width) outputs; the cache including these tokens).
        """
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        made = []
        for layer in range(self.layers):
            past = None if cache is None else cache[layer]
            block = Block(self.heads, self.activation, self.dropout, name=f"block_{layer}")
            x, present = block(x, past, position, visible, train)
            made.append(present)
        return nn.LayerNorm(epsilon=1e-5)(x), tuple(made)


def empty_cache(layers: int, batch: int, places: int, heads: int, width: int) -> Cache:
    """A cache without tokens; `width` is the width of a token."""
    zeros = jnp.zeros((batch, heads, places, width // heads))
    return (Kept(zeros, zeros),) * layers
