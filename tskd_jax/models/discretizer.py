"""Numbers as tokens: each dimension is cut into bins (Janner, Li and Levine 2021, Section 3.1)."""

import numpy as np
from flax import struct
from jaxtyping import Float, Int

from tskd_jax.errors import ConfigError
from tskd_jax.machine.types import Leaf

KINDS = ("quantile", "uniform")


@struct.dataclass
class Discretizer:
    """Bins of each dimension; on the host.

    A bin holds its left edge and not its right one; the last holds both, and what lies outside
    belongs to the first or the last.

    Attributes:
      edges: (bins + 1, D) raw units, not falling.
      centres: (bins, D) what a token stands for: the mean of the data in its bin, or where there
        are none the middle between its edges.
    """

    edges: Leaf
    centres: Leaf

    @property
    def bins(self) -> int:
        """Tokens of each dimension: 0 … bins - 1."""
        return len(self.centres)

    def encode(
        self, x: Float[np.ndarray, "*batch d"], first: int = 0
    ) -> Int[np.ndarray, "*batch d"]:
        """Tokens of numbers in raw units; `first` is the dimension of the first of them."""
        columns = [
            np.searchsorted(self.edges[:, first + d], x[..., d], side="right") - 1
            for d in range(x.shape[-1])
        ]
        return np.clip(np.stack(columns, -1), 0, self.bins - 1).astype(np.int32)

    def decode(
        self, tokens: Int[np.ndarray, "*batch d"], first: int = 0
    ) -> Float[np.ndarray, "*batch d"]:
        """What tokens stand for; that of an episode's end is taken for the last bin's."""
        tokens = np.minimum(tokens, self.bins - 1)
        columns = [self.centres[tokens[..., d], first + d] for d in range(tokens.shape[-1])]
        return np.stack(columns, -1)


def fit_discretizer(kind: str, x: Float[np.ndarray, "rows d"], bins: int) -> Discretizer:
    """Bins for that data.

    Args:
      kind: `quantile`: as many rows in each bin; `uniform`: bins of one width.
      x: (N, D) raw units.
      bins: of each dimension.

    Raises:
      ConfigError: the kind is unknown.
    """
    if kind == "quantile":
        rows = np.linspace(0, len(x) - 1, bins + 1).astype(np.int64)
        edges = np.sort(x, axis=0)[rows]
    elif kind == "uniform":
        edges = np.linspace(x.min(0), x.max(0), bins + 1)
    else:
        raise ConfigError(f"discretizer {kind!r} is unknown; one of {', '.join(KINDS)}")
    edges = edges.astype(np.float32)
    middles = (edges[1:] + edges[:-1]) / 2
    fitted = Discretizer(edges, middles)
    tokens = fitted.encode(x)
    centres = middles.copy()
    for d in range(x.shape[1]):
        count = np.bincount(tokens[:, d], minlength=bins)
        total = np.bincount(tokens[:, d], x[:, d], minlength=bins)
        centres[:, d] = np.where(count > 0, total / np.maximum(count, 1), middles[:, d])
    return fitted.replace(centres=centres)
