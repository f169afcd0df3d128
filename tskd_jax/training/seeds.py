"""Seeds as the leading axis of every pytree that differs between them, always there (S ≥ 1)."""

from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np

Tree = TypeVar("Tree")


def of_seed(tree: Tree, index: int) -> Tree:
    """One seed's share of a pytree: (S, …) -> (…). On the host it is a view."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack_seeds(trees: Sequence[Tree]) -> Tree:
    """Pytrees of one structure and of equal shapes, as one with the seeds as leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def for_seeds(tree: Tree, seeds: int) -> Tree:
    """What all seeds share, with the seeds as leading axis (a view, not copies)."""
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (seeds, *np.shape(leaf))), tree)


def pad_rows(parts: Sequence[Any]) -> tuple[Any, np.ndarray]:
    """Arrays of different numbers of rows, side by side.

    Args:
      parts: of each seed, a pytree of arrays (N_seed, …).

    Returns:
      (the same with leaves (seeds, N, …), N the largest; zeros stand behind a seed's last row;
      N_seed of each, (seeds,) int32).
    """
    counts = np.array([len(jax.tree.leaves(part)[0]) for part in parts], np.int32)

    def side_by_side(*leaves):
        padded = np.zeros((len(leaves), counts.max(), *leaves[0].shape[1:]), leaves[0].dtype)
        for place, leaf in zip(padded, leaves, strict=True):
            place[: len(leaf)] = leaf
        return padded

    return jax.tree.map(side_by_side, *parts), counts


def metrics_of_seeds(seeds: Sequence[int], metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The metrics of a stage.

    Args:
      seeds: whose they are.
      metrics: of each seed.

    Returns:
      Of a single seed its metrics. Of several the mean of each number, and `of_seed`: those of each
      seed by its name.
    """
    if len(metrics) == 1:
        return dict(metrics[0])
    means = {
        name: float(np.mean([about[name] for about in metrics]))
        for name in metrics[0]
        if all(_is_number(about.get(name)) for about in metrics)
    }
    by_seed = {str(seed): about for seed, about in zip(seeds, metrics, strict=True)}
    return means | {"of_seed": by_seed}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
