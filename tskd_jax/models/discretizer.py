"""Numbers as tokens: splits each dimension into bins (Janner, Li and Levine 2021, Section 3.1)."""

import numpy as np
from flax import struct
from jaxtyping import Float, Int

from tskd_jax.errors import ConfigError
from tskd_jax.machine.types import Leaf

KINDS = ("quantile", "uniform")


@struct.dataclass
class Discretizer:
    """Bins of each dimension; on the host.

    A bin contains its left edge but not its right one; the last bin contains both. Numbers outside
    the range belong to the first or the last bin.

    Attributes:
      edges: (bins + 1, D) raw units, non-decreasing.
      centres: (bins, D) raw units, the number that a token stands for: the mean of the data in its
        bin, or of the bin's edges if it holds no data.
    """

    edges: Leaf
    centres: Leaf

    @property
    def bins(self) -> int:
        """Number of tokens of each dimension: 0 … bins - 1."""
        return len(self.centres)

    def encode(
        self, x: Float[np.ndarray, "*batch d"], first: int = 0
    ) -> Int[np.ndarray, "*batch d"]:
        """Tokens of numbers in raw units; `first` is the dimension of the first number."""
        columns = [
            np.searchsorted(self.edges[:, first + d], x[..., d], side="right") - 1
            for d in range(x.shape[-1])
        ]
        return np.clip(np.stack(columns, -1), 0, self.bins - 1).astype(np.int32)

    def decode(
        self, tokens: Int[np.ndarray, "*batch d"], first: int = 0
    ) -> Float[np.ndarray, "*batch d"]:
        """Numbers (raw units) that tokens stand for; an episode's end is read as the last bin."""
        tokens = np.minimum(tokens, self.bins - 1)
        columns = [self.centres[tokens[..., d], first + d] for d in range(tokens.shape[-1])]
        return np.stack(columns, -1)


def fit_discretizer(kind: str, x: Float[np.ndarray, "rows d"], bins: int) -> Discretizer:
    """Fit bins to data.

    Args:
      kind: `quantile`: equally many rows in each bin; where that would leave most bins empty, as
        of rewards that are rarely other than 0, equally many distinct numbers instead, so that
        the rare ones keep bins of their own; `uniform`: bins of equal width.
      x: (N, D) raw units.
      bins: number of bins of each dimension.

    Raises:
      ConfigError: the kind is unknown.
    """
    if kind == "quantile":
        rows = np.linspace(0, len(x) - 1, bins + 1).astype(np.int64)
        edges = np.sort(x, axis=0)[rows]
        for d in range(x.shape[1]):
            numbers = np.unique(x[:, d])
            if len(numbers) <= bins or 2 * len(np.unique(edges[:, d])) <= bins:
                edges[:, d] = _edges_of_distinct(numbers, bins)
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


def _edges_of_distinct(numbers: np.ndarray, bins: int) -> np.ndarray:
    """(bins + 1,) edges between equally many of some increasing numbers; the last bins are empty
    if there are fewer numbers than bins.
    """
    starts = [group[0] for group in np.array_split(numbers, min(bins, len(numbers)))]
    return np.pad(starts, (0, bins + 1 - len(starts)), constant_values=numbers[-1])
