"""Training on the recorded transitions of most episodes, and measuring on the others."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from tskd_jax.data.splits import split_rows
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.training import seeds
from tskd_jax.training.batching import draw_from
from tskd_jax.training.training import Training, TrainingConfig

HELD_OUT = 0.05  # share of the transitions


def training(
    name: str,
    config: TrainingConfig,
    trajectories: Trajectories,
    columns: tuple[np.ndarray, ...],
    keys: jax.Array,
    *,
    init: Callable[[jax.Array], Any],
    loss: Callable[[Any, Any, Any, jax.Array], jax.Array],
    share: float = HELD_OUT,
    members: int | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[Training, list[tuple[np.ndarray, np.ndarray]]]:
    """The training of all seeds, each on episodes of its own choice.

    Args:
      name: for messages.
      config: steps, batch size and optimizer.
      trajectories: the recorded dataset.
      columns: arrays (N, …), of which a batch has the same rows.
      keys: (S,).
      init: key -> parameters.
      loss: (parameters, their average, batch, key) -> the loss.
      share: of the transitions that is held out.
      members: trained for each seed on the same rows; None: one, without an axis of its own.
      optimizer: None: the config's.

    Returns:
      (the training; for each seed, the transitions trained on and those held out).
    """
    split_keys, fit_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    splits = [split_rows(trajectories, share, key) for key in split_keys]
    if members is not None:
        fit_keys = jax.vmap(lambda key: jax.random.split(key, members))(fit_keys)
    return Training(
        name=name,
        init=init,
        loss=loss,
        draw=draw_from(config.batch_size),
        data=(columns, *seeds.pad_rows([rows for rows, _ in splits])),
        optimizer=config.optimizer() if optimizer is None else optimizer,
        steps=config.steps,
        keys=fit_keys,
        data_axes=(None, 0, 0),
    ), splits


def explained(errors: np.ndarray, targets: np.ndarray) -> float:
    """The share of the variance of `targets` (N, …) that `errors` (N, …) leave explained (R²)."""
    spread = np.square(targets - targets.mean(0)).mean()
    return float(1 - np.square(errors).mean() / max(spread, 1e-12))
