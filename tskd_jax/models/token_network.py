"""The network of a Trajectory Transformer: maps tokens of transitions to next-token logits.

Sizes are those of the published code. They give the parameter counts of Table 3: 1.23 M for hopper,
and 1.47 M for halfcheetah and walker2d.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tskd_jax.models.sequence_model import SequenceConfig
from tskd_jax.nn.transformer import INIT, Cache, empty_cache


class TokenNetwork(nn.Module):
    """A transformer over a sequence of transitions of D tokens each.

    Each dimension has its own embeddings and output layer. In all of them, the token `bins` stands
    for the end of the episode. No other token attends to a value's token: a value tells what
    follows in the data, which is unknown while acting.

    Attributes:
      config: the transformer's size.
      size: D.
      bins: number of tokens of each dimension, without the token of the end.
      transitions: T, the longest sequence in training.
    """

    config: SequenceConfig
    size: int
    bins: int
    transitions: int

    def setup(self):
        width = self.config.width
        self.embedding = nn.Embed(self.size * self.bins + 1, width, embedding_init=INIT)
        # A sequence's last token predicts nothing: it needs no position.
        places = self.transitions * self.size - 1
        self.positions = self.param("positions", nn.initializers.zeros, (places, width))
        self.transformer = self.config.transformer(functools.partial(nn.gelu, approximate=False))
        self.kernel = self.param("kernel", INIT, (self.size, width, self.bins + 1))

    def __call__(
        self, tokens: Int[Array, "batch places"], train: bool = False
    ) -> Float[Array, "batch places logits"]:
        """Logits of the token that follows each token."""
        x = self._embed(tokens, 0)
        outputs, _ = self.transformer(x, self._visible(x.shape[1]), train=train)
        batch, places, width = outputs.shape
        whole = jnp.pad(outputs, ((0, 0), (0, -places % self.size), (0, 0)))
        rows = whole.reshape(batch, -1, self.size, width)
        logits = jnp.einsum("bkdw,dwo->bkdo", rows, self.kernel)
        return logits.reshape(batch, -1, self.bins + 1)[:, :places]

    def begin(
        self, tokens: Int[Array, "batch places"], last: Int[Array, ""], places: int
    ) -> tuple[Float[Array, "batch logits"], Cache]:
        """Process the first tokens of a sequence, all at once.

        Args:
          tokens: the tokens; those after `last` are ignored.
          last: the place of the last token to use.
          places: size of the cache, with room for the tokens that will follow.

        Returns:
          (logits of the token after `last`; the cache).
        """
        x, config = self._embed(tokens, 0), self.config
        cache = empty_cache(config.layers, len(x), places, config.heads, config.width)
        outputs, cache = self.transformer(x, self._visible(places), cache)
        output = jax.lax.dynamic_index_in_dim(outputs, last, 1, keepdims=False)
        return self._logits(output, last), cache

    def extend(
        self, token: Int[Array, " batch"], cache: Any, place: Int[Array, ""]
    ) -> tuple[Float[Array, "batch logits"], Cache]:
        """Add one token at `place`; returns (logits of the token after it; the extended cache)."""
        x = self._embed(token[:, None], place)
        visible = self._visible(cache[0].keys.shape[2])
        outputs, cache = self.transformer(x, visible, cache, place)
        return self._logits(outputs[:, 0], place), cache

    def _embed(self, tokens, place):
        dimension = (place + jnp.arange(tokens.shape[1])) % self.size
        index = tokens + (self.bins * dimension)[None]
        index = jnp.where(tokens == self.bins, self.bins * self.size, index)
        positions = jax.lax.dynamic_slice_in_dim(self.positions, place, tokens.shape[1])
        return self.embedding(index) + positions[None]

    def _visible(self, places: int) -> Bool[Array, "1 places"]:
        return (jnp.arange(places) % self.size != self.size - 1)[None]

    def _logits(self, output, place):
        kernel = jax.lax.dynamic_index_in_dim(self.kernel, place % self.size, 0, keepdims=False)
        return output @ kernel
