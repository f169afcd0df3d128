"""Seeds as the leading axis of every pytree that differs between them, always there (S ≥ 1)."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
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


def map_axis(
    function: Callable[..., Any],
    size: int,
    in_axes: Any = 0,
    out_axes: int = 0,
    spmd_axis_name: str | None = None,
) -> Callable[..., Any]:
    """As `jax.vmap` over an axis of that size, but without a batch dimension where it is 1.

    Most runs have one seed of one member, and on a CPU XLA multiplies and convolves up to twice as
    slowly behind leading axes of 1.

    Args:
      function: to be mapped.
      size: of the axis.
      in_axes, out_axes, spmd_axis_name: as of `jax.vmap`.
    """
    if size > 1:
        return jax.vmap(function, in_axes, out_axes, spmd_axis_name=spmd_axis_name)

    def of_one(*arguments):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
        seen = [select(part, axis, 0) for part, axis in zip(arguments, axes, strict=True)]
        return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, out_axes), function(*seen))

    return of_one


def select(tree: Tree, axes: Any, index: int | np.ndarray) -> Tree:
    """What one of a mapped axis, or several, see of a tree; `axes` is the axis as of `jax.vmap`."""

    def of_part(axis, part):
        if axis is None:
            return part
        return jax.tree.map(lambda leaf: leaf[(slice(None),) * axis + (index,)], part)

    return jax.tree.map(of_part, axes, tree, is_leaf=lambda axis: axis is None)


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
