"""A small causal transformer: GPT-2's blocks (Radford et al. 2019), normalised before each part.

It takes embedded tokens and knows nothing of what they mean. Tokens are processed all at once, or
one after another with a cache of the keys and values of those before.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INIT = nn.initializers.normal(0.02)  # of all weights, as GPT-2's
HIDDEN = 4  # units of a block's hidden layer, in widths
# Finite, so that the softmax of a token that may look at nothing, which is padding, is a number.
NEVER = -1e9


class Kept(NamedTuple):
    """Keys and values of one layer, of the tokens so far, for L places.

    Attributes:
      keys, values: (batch, heads, L, width of a head). A place that no token has been put in yet
        holds anything: no token looks at a place behind its own. Heads stand before places, as they
        are multiplied: on a CPU, decoding is four times as fast as the other way round.
    """

    keys: Any
    values: Any


Cache = tuple[Kept, ...]  # of each layer


class Attention(nn.Module):
    """Causal self-attention of several heads.

    Attributes:
      heads: which divide the width.
      dropout: rate, of the attention weights and of the output.
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
        """Arguments as of `Transformer`; `past` is the keys and values of this layer."""
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
    """x + attention(norm(x)), then x + hidden layer(norm(x)); attributes as of `Transformer`."""

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
    """Blocks and a last normalisation.

    Attributes:
      layers: blocks.
      heads: of each; they divide the width of the tokens.
      activation: of the hidden layers.
      dropout: rate in training, of the tokens, the attention weights and what each part adds.
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
        """What each token knows of itself and of those before it.

        Args:
          x: (B, T, width) embedded tokens.
          visible: (B or 1, L) which places may be looked at: padding may not. Without a cache L is
            T. What a token that may look at nothing becomes means nothing.
          cache: of L places. None: these tokens are all.
          position: the place of the first of these tokens in the cache.
          train: dropout, with the random numbers `dropout`.

        Returns:
          ((B, T, width) outputs; the cache with these tokens).
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
    """A cache in which no token is yet; `width` is that of the tokens."""
    zeros = jnp.zeros((batch, heads, places, width // heads))
    return (Kept(zeros, zeros),) * layers
