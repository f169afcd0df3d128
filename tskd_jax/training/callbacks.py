"""Callbacks of a training: to watch it, save it and restore it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tskd_jax.training.training import TrainState

Cache = Callable[[str, Callable[[], tuple[np.ndarray, ...]]], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class TrainingCallbacks:
    """Callbacks of a training; each does nothing by default.

    Attributes:
      on_progress: called with (steps done, total steps, metrics) after each chunk. From the second
        chunk on, when everything is compiled, the metrics hold `steps_per_second` and
        `matmul_flops_per_second`, the operations of its matrix products.
      save: called with the state after each chunk; decides itself whether to save.
      restore: called once with the fresh state; returns the state to start from.
      on_compiled: called once, before the first update, with the bytes that the program takes:
        data, state and temporaries.
      cache: (name of a part, compute) -> the part's arrays, for work that is not a training and is
        done part by part. Calls `compute`, or returns what an earlier process computed.
      part: name -> callbacks for the training that is the part of this one with that name.
      report: called with a line of text for the user.
    """

    on_progress: Callable[[int, int, dict[str, float]], None] = lambda done, steps, metrics: None
    save: Callable[["TrainState"], None] = lambda state: None
    restore: Callable[["TrainState"], "TrainState"] = lambda state: state
    on_compiled: Callable[[int], None] = lambda size: None
    cache: Cache = lambda part, compute: compute()
    part: Callable[[str], "TrainingCallbacks"] = lambda name: TrainingCallbacks()
    report: Callable[[str], None] = lambda line: None
