"""A training as a value, which `fit` runs and a cost model or a trace reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from tskd_jax import fields
from tskd_jax.machine.types import Leaf
from tskd_jax.training.seeds import select

SCHEDULES = fields.one_of(["constant", "cosine"])


@struct.dataclass
class TrainState:
    """The state of a training: everything that is needed to continue it.

    Every leaf except `step` has the axes of the training's keys in front: (seeds, …) or, with
    members (an ensemble, a twin), (seeds, members, …).

    Attributes:
      params: the network's parameters.
      ema: their exponential moving average (section 3; for value nets, the target network).
      opt_state: the optimizer's state.
      step: () int32, updates done.
      key: (seeds,) or (seeds, members), the keys of the whole training; each step folds in its
        number, so the batches do not depend on where a run was interrupted.
    """

    params: Leaf
    ema: Leaf
    opt_state: Leaf
    step: Leaf
    key: Leaf


@dataclass(frozen=True)
class Ema:
    """How the moving average follows the parameters: ema ← decay · ema + (1 - decay) · params.

    Attributes:
      decay: with 0 the average is a plain copy.
      every: number of updates between two moves of the average.
      start: up to and including this update, the average is a plain copy.
    """

    decay: float = 0.0
    every: int = 1
    start: int = 0


@dataclass(frozen=True)
class Training:
    """What is trained, on what data, and how; for one member, mapped over the axes of `keys`.

    Attributes:
      name: name of the model, for messages.
      init: key -> parameters.
      loss: (params, ema, batch, key) -> scalar.
      draw: (data, key) -> batch; compiled, so data stays on the device.
      data: pytree of arrays.
      optimizer: of the parameters.
      steps: number of updates.
      keys: (seeds,) or (seeds, members): one training for each.
      data_axes: `in_axes` of `jax.vmap` over the seeds for `data`: 0 where a part has the seeds as
        leading axis, None where all seeds share it.
      member_axes: the same over the members, for the part of `data` that one seed sees.
      accumulate: batches per update, whose gradients are averaged; one at a time in memory.
      ema: the moving average; by default a plain copy.
      rows: for each seed, the dataset row of each row of `data`, for messages; None: the same row.
      initial: parameters to start from, with the axes of the keys in front; None: those of `init`.
    """

    name: str
    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Any, Any, jax.Array], jax.Array]
    draw: Callable[[Any, jax.Array], Any]
    data: Any
    optimizer: optax.GradientTransformation
    steps: int
    keys: jax.Array
    data_axes: Any = None
    member_axes: Any = None
    accumulate: int = 1
    ema: Ema = Ema()
    rows: Sequence[np.ndarray] | None = None
    initial: Any = None

    def seen_by(self, member: tuple[int, ...]) -> Any:
        """The part of the data that one member sees; `member` is its index in `keys`."""
        data = self.data
        for axes, index in zip((self.data_axes, self.member_axes), member, strict=False):
            data = select(data, axes, index)
        return data


@dataclass(frozen=True)
class Fitted:
    """The result of a training, on the host, with the axes of its keys in front.

    Attributes:
      params, ema: as in `TrainState`.
      metrics: of the last chunk (of each group of seeds, if memory does not hold all), means
        over all members and seeds; empty if nothing was left to train.
    """

    params: Leaf
    ema: Leaf
    metrics: dict[str, float]


@dataclass(frozen=True)
class TrainingConfig:
    """The fields of every training; each part sets its own defaults."""

    steps: int
    batch_size: int
    learning_rate: float
    schedule: str

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, with the learning rate and schedule of these fields."""
        return adam(self.learning_rate, self.schedule, self.steps)


def steps_field(default: int, source: str) -> Any:
    """The field for the number of updates."""
    return fields.field(default, fields.COUNT, f"updates; times steps_multiplier ({source})")


def batch_size_field(default: int, source: str) -> Any:
    """The field for the number of rows in a batch."""
    return fields.field(default, fields.COUNT, f"rows a batch ({source})")


def learning_rate_field(default: float, source: str) -> Any:
    """The field for Adam's learning rate."""
    return fields.field(default, fields.POSITIVE, f"of Adam ({source})")


def schedule_field(default: str = "constant") -> Any:
    """The field for the schedule of the learning rate."""
    return fields.field(default, SCHEDULES, "of the learning rate; cosine falls to 0")


def adam(
    learning_rate: float, schedule: str, steps: int, b1: float = 0.9
) -> optax.GradientTransformation:
    """Adam with a `constant` rate, or a `cosine` one that warms up over 2% of the steps.

    `b1` is the decay of its average of the gradients.
    """
    if schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(
            0.0, learning_rate, max(1, steps // 50), max(2, steps)
        )
        return optax.adam(rate, b1)
    return optax.adam(learning_rate, b1)


def make_update(
    training: Training,
) -> Callable[..., tuple[Any, Any, Any, Any, dict[str, jax.Array]]]:
    """One update of one member, as `fit` repeats it.

    Returns:
      (params, average, opt_state, key of the training, updates done, data) -> (params, average,
      opt_state, what was added to params, metrics).
    """

    accumulate = training.accumulate

    def gradient(params, average, key, data):
        batch_key, loss_key = jax.random.split(key)
        return jax.value_and_grad(training.loss)(
            params, average, training.draw(data, batch_key), loss_key
        )

    def mean_gradient(params, average, key, data):
        def add(total, key):
            return jax.tree.map(jnp.add, total, gradient(params, average, key, data)), None

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, zero, jax.random.split(key, accumulate))
        return jax.tree.map(lambda leaf: leaf / accumulate, total)

    def update(params, average, opt_state, key, step, data):
        of_step = gradient if accumulate == 1 else mean_gradient
        value, grads = of_step(params, average, jax.random.fold_in(key, step + 1), data)
        updates, opt_state = training.optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = _move(average, params, step + 1, training.ema)
        metrics = {"loss": value, "gradient_norm": optax.tree.norm(grads)}
        return params, average, opt_state, updates, metrics

    return update


def _move(average: Any, params: Any, step: jax.Array, ema: Ema) -> Any:
    """The moving average after update number `step`."""
    if not ema.decay:
        return params
    moves = (step % ema.every == 0) | (step <= ema.start)
    kept = jnp.where(moves, jnp.where(step <= ema.start, 0.0, ema.decay), 1.0)
    return jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, params)
