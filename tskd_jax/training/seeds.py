"""Seeds as a leading axis: each training is one program for all of them, if memory holds it.

Between stages the seeds' results are lists; inside a program the seed is the leading axis of all
that differs between seeds. What all seeds share, such as the recorded data, is there once.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from tskd_jax.machine import hosts, memory
from tskd_jax.machine.types import Leaf
from tskd_jax.training.training import Ema, Hooks, fit, of_first_axis


class Fitted(NamedTuple):
    """What one seed's training gave: as `params` and `ema` of a `TrainState`."""

    params: Leaf
    ema: Leaf


class _TooMuch(Exception):
    """The program for all these seeds takes more bytes than are free."""

    def __init__(self, needed: int):
        super().__init__(needed)
        self.needed = needed


def fit_seeds(
    name: str,
    init: Callable[[jax.Array], Any],
    loss: Callable[[Any, Any, Any, jax.Array], jax.Array],
    draw: Callable[[Any, jax.Array], Any],
    data: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    key: jax.Array,
    data_axes: Any = None,
    accumulate: int = 1,
    ema: Ema | None = None,
    hooks: Hooks | None = None,
    rows: Sequence[np.ndarray] | None = None,
) -> list[Fitted]:
    """`fit` for several seeds in one program, or in several where memory does not hold one.

    A seed's result depends neither on the other seeds nor on the groups (but for rounding). A
    single seed is trained without the axis.

    Args:
      name, init, loss, draw, optimizer, steps, accumulate, ema, hooks: as of `fit`.
      data: shared by all seeds where `data_axes` is None; else arrays with the seeds as leading
        axis.
      key: (seeds,) or, with members, (seeds, members).
      data_axes: as `in_axes` of `jax.vmap`, for `data`.
      rows: of each seed, as of `fit`.

    Returns:
      One for each seed.

    Raises:
      DivergenceError, OutOfMemoryError: as of `fit`.
    """
    hooks = hooks or Hooks()
    what = {
        "name": name,
        "init": init,
        "loss": loss,
        "draw": draw,
        "optimizer": optimizer,
        "steps": steps,
        "accumulate": accumulate,
        "ema": ema,
    }
    seeds = len(key)
    if seeds == 1:
        state = fit(
            **what,
            data=of_first_axis(data, data_axes, 0),
            key=key[0],
            hooks=hooks,
            rows=None if rows is None else rows[0],
        )
        return [Fitted(state.params, state.ema)]
    free = hosts.from_first(lambda: memory.of_device()[0])  # one grouping for all processes

    def on_compiled(needed: int) -> None:
        hooks.on_compiled(needed)
        if needed > free:
            raise _TooMuch(needed)

    try:
        state = fit(
            **what,
            data=data,
            key=key,
            data_axes=data_axes,
            hooks=replace(hooks, on_compiled=on_compiled),
            rows=rows,
        )
    except _TooMuch as found:
        size = min(max(1, seeds * free // found.needed), seeds - 1)
    else:
        # On the host a seed's share is a view; on the device it would be a copy.
        whole = jax.tree.map(np.asarray, Fitted(state.params, state.ema))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], whole) for i in range(seeds)]
    hooks.say(
        f"  {name}: {seeds} seeds at once do not fit into {memory.readable(free)} of free memory: "
        f"{size} at a time"
    )
    fitted = []
    for first in range(0, seeds, size):
        group = list(range(first, min(first + size, seeds)))
        fitted += fit_seeds(
            **what,
            data=of_first_axis(data, data_axes, np.array(group)),
            key=key[np.array(group)],
            data_axes=data_axes,
            hooks=hooks.within(f"from_seed_{first}"),
            rows=None if rows is None else [rows[i] for i in group],
        )
    return fitted


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


def pipeline_seeds(config: Any) -> tuple[int, ...]:
    """The seeds of everything before the students: one, or as `config.seed_axis` says, all."""
    return tuple(config.seeds) if config.seed_axis == "pipeline" else (config.seed,)


def figures_of(seeds: Sequence[int], figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a stage for the manifest.

    Args:
      seeds: whose they are.
      figures: of each seed.

    Returns:
      Of a single seed its figures. Of several the mean of each number, and `of_seed`: those of each
      seed by its name.
    """
    if len(figures) == 1:
        return dict(figures[0])
    means = {
        name: float(np.mean([about[name] for about in figures]))
        for name in figures[0]
        if all(_is_number(about.get(name)) for about in figures)
    }
    by_seed = {str(seed): about for seed, about in zip(seeds, figures, strict=True)}
    return means | {"of_seed": by_seed}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
