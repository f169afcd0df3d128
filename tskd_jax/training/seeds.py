"""The seed axis: leads every pytree that differs between seeds, and is always there (S ≥ 1)."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Tree = TypeVar("Tree")


def of_seed(tree: Tree, index: int) -> Tree:
    """One seed's share of a pytree: (S, …) -> (…); a view on the host."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def stack_seeds(trees: Sequence[Tree]) -> Tree:
    """Stack pytrees of equal structure and shapes along a new leading seed axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def for_seeds(tree: Tree, seeds: int) -> Tree:
    """Add a leading seed axis to a pytree that all seeds share (a view, not copies)."""
    return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (seeds, *np.shape(leaf))), tree)


def pad_rows(parts: Sequence[Any]) -> tuple[Any, np.ndarray]:
    """Stack arrays of different lengths along a new leading seed axis, padded with zeros.

    Args:
      parts: for each seed, a pytree of arrays (N_seed, …).

    Returns:
      (the pytree with leaves (seeds, N, …), where N is the largest N_seed and zeros follow a seed's
      last row; (seeds,) int32, the N_seed).
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
    """Like `jax.vmap` over an axis of that size, but without a batch dimension if the size is 1.

    Most runs have one seed with one member, and on a CPU XLA multiplies and convolves up to twice
    as slowly with leading axes of 1.

    Args:
      function: the function to map.
      size: size of the axis.
      in_axes, out_axes, spmd_axis_name: as for `jax.vmap`.
    """
    if size > 1:
        return jax.vmap(function, in_axes, out_axes, spmd_axis_name=spmd_axis_name)

    def of_one(*arguments):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(arguments)
        seen = [select(part, axis, 0) for part, axis in zip(arguments, axes, strict=True)]
        return jax.tree.map(lambda leaf: jnp.expand_dims(leaf, out_axes), function(*seen))

    return of_one


def select(tree: Tree, axes: Any, index: int | np.ndarray) -> Tree:
    """The part of a tree at an index, or several, of a mapped axis; `axes` as for `jax.vmap`."""

    def of_part(axis, part):
        if axis is None:
            return part
        return jax.tree.map(lambda leaf: leaf[(slice(None),) * axis + (index,)], part)

    return jax.tree.map(of_part, axes, tree, is_leaf=lambda axis: axis is None)


def metrics_of_seeds(seeds: Sequence[int], metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Combine the metrics of several seeds into those of a stage.

    Args:
      seeds: the seeds, by which `of_seed` is keyed.
      metrics: the metrics of each seed.

    Returns:
      For a single seed, its metrics. For several, the mean of each number that all have, and
      `of_seed`: the metrics of each seed.
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
