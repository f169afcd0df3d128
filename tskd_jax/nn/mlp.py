"""The multilayer perceptron that every small model uses."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float


class MLP(nn.Module):
    """Dense layers with ReLU between them, none after the last.

    Attributes:
      hidden: widths of the hidden layers.
      outputs: width of the last layer.
      layer_norm: whether each hidden layer's output is normalised, after its ReLU.
    """

    hidden: Sequence[int]
    outputs: int
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
            if self.layer_norm:
                x = nn.LayerNorm()(x)
        return nn.Dense(self.outputs)(x)


def count_parameters(params) -> int:
    """The number of scalars in a pytree of parameters."""
    return int(sum(np.prod(leaf.shape, dtype=np.int64) for leaf in jax.tree.leaves(params)))
