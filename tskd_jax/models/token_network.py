"""The network of a Trajectory Transformer: tokens of transitions in, logits of the next token out.

Sizes are the published code's, and so are Table 3's parameters: 1.23 M for hopper and 1.47 M for
halfcheetah and walker2d.
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
    """Transitions of D tokens, laid end to end.

    Each dimension has embeddings and an output layer of its own. The token `bins` stands for the
    end of the episode in all of them. A place of a value is seen by no other: a value says what
    follows in the data, which nobody knows while acting.

    Attributes:
      config: the transformer's size.
      size: D.
      bins: tokens of each dimension, without that of the end.
      transitions: T, the longest sequence in training.
    """

    config: SequenceConfig
    size: int
    bins: int
    transitions: int

    def setup(self):
        width = self.config.width
        self.embedding = nn.Embed(self.size * self.bins + 1, width, embedding_init=INIT)
        # Nothing stands behind a sequence's last token: it needs no place.
        places = self.transitions * self.size - 1
        self.positions = self.param("positions", nn.initializers.zeros, (places, width))
        self.transformer = self.config.transformer(functools.partial(nn.gelu, approximate=False))
        self.kernel = self.param("kernel", INIT, (self.size, width, self.bins + 1))

    def __call__(
        self, tokens: Int[Array, "batch places"], train: bool = False
    ) -> Float[Array, "batch places logits"]:
        """Logits of the token behind each."""
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
        """The first tokens of a sequence, all at once.

        Args:
          tokens: what stands behind `last` is ignored.
          last: the place of the last token that counts.
          places: of the cache, for those that will follow.

        Returns:
          (logits of the token behind `last`; the cache).
        """
        x, config = self._embed(tokens, 0), self.config
        cache = empty_cache(config.layers, len(x), places, config.heads, config.width)
        outputs, cache = self.transformer(x, self._visible(places), cache)
        output = jax.lax.dynamic_index_in_dim(outputs, last, 1, keepdims=False)
        return self._logits(output, last), cache

    def extend(
        self, token: Int[Array, " batch"], cache: Any, place: Int[Array, ""]
    ) -> tuple[Float[Array, "batch logits"], Cache]:
        """One more token, at `place`: (logits of the token behind it; the cache with it)."""
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
