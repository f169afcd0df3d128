"""fit(): the one compiled training loop that every model uses."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.errors import DivergenceError
from tskd_jax.machine import devices, hosts, memory
from tskd_jax.machine.throughput import flops_of
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.chunk import chunk_of
from tskd_jax.training.training import Fitted, Training, TrainState

# A chunk is a number of steps run without returning to the host: long enough to hide the round
# trip, short enough for a progress bar and for a checkpoint on request.
CHUNK_SECONDS = 1.0
MIN_CHUNK = 4  # updates: entering and leaving the program copies the state of large networks
# A training diverges when its loss exceeds this many times the first loss (or 1, if larger).
DIVERGENCE_FACTOR = 1e6
MAX_ROWS_NAMED = 10


class _TooMuch(Exception):
    """The program for all seeds at once needs more bytes than are free."""

    def __init__(self, needed: int, free: int):
        super().__init__(needed, free)
        self.needed, self.free = needed, free


def fit(training: Training, callbacks: TrainingCallbacks | None = None) -> Fitted:
    """Minimise a loss over batches, in compiled chunks with the data on the device.

    All seeds and members run in one program, or in several if they do not fit into memory together.
    A seed's result depends neither on the other seeds nor on the grouping (up to rounding).

    Args:
      training: what is trained.
      callbacks: progress and checkpoints.

    Raises:
      DivergenceError: the loss or gradient of a member was not finite, or the loss exploded; the
        message names step, loss, gradient norm and the rows of the batch.
      OutOfMemoryError: the machine cannot hold what the training needs.
    """
    callbacks = callbacks or TrainingCallbacks()
    count = len(training.keys)
    try:
        return _fit(training, callbacks)
    except _TooMuch as found:
        size = min(max(1, count * found.free // found.needed), count - 1)
        free = memory.readable(found.free)
    callbacks.report(
        f"  {training.name}: {count} seeds at once do not fit into {free} of free memory: "
        f"{size} at a time"
    )
    # Another time there may be memory for other groups, which then have checkpoints of their own.
    groups = [
        fit(
            of_seeds(training, np.arange(first, end)),
            callbacks.part(f"seeds_{first}_to_{end - 1}"),
        )
        for first, end in ((one, min(one + size, count)) for one in range(0, count, size))
    ]
    params, ema = (
        jax.tree.map(lambda *leaves: np.concatenate(leaves), *(getattr(g, name) for g in groups))
        for name in ("params", "ema")
    )
    # A group with nothing left to train has no metrics.
    trained = [group for group in groups if group.metrics]
    sizes = [len(jax.tree.leaves(group.params)[0]) for group in trained]
    metrics = {
        name: float(np.average([group.metrics[name] for group in trained], weights=sizes))
        for name in (trained[0].metrics if trained else ())
        if all(name in group.metrics for group in trained)
    }
    return Fitted(params, ema, metrics)


def of_seeds(training: Training, index: np.ndarray) -> Training:
    """The same training for some of its seeds."""
    rows = training.rows
    return replace(
        training,
        data=seeds.select(training.data, training.data_axes, index),
        keys=training.keys[index],
        rows=None if rows is None else [rows[i] for i in index],
        initial=seeds.select(training.initial, 0, index),
    )


def _fit(training: Training, callbacks: TrainingCallbacks) -> Fitted:
    loop = _compile(training, callbacks)
    state, data, metrics = loop.state, loop.data, {}
    largest = np.float32(np.finfo(np.float32).max)  # until the first loss is known
    count, done, warm = 1, int(state.step), False
    while done < training.steps:
        begin, before = time.perf_counter(), done
        with memory.named(training.name, loop.memory):
            state, means, last, good = loop.run(
                state, data, np.int32(min(count, training.steps - done)), largest
            )
            done = int(state.step)
        seconds = hosts.from_first(lambda begin=begin: time.perf_counter() - begin)
        if not good:
            raise DivergenceError(_divergence(training, last, largest, done))
        if not warm:
            largest = np.float32(DIVERGENCE_FACTOR * max(1.0, float(jnp.abs(last["loss"]).max())))
        metrics = {name: float(value) for name, value in means.items()}
        if warm:
            rate = (done - before) / seconds
            metrics |= {
                "steps_per_second": rate,
                "matmul_flops_per_second": loop.flops * rate,
            }
        warm = True
        callbacks.on_progress(done, training.steps, metrics)
        callbacks.save(state)
        # Doubling approaches the target from below, without assumptions about the machine.
        if seconds < CHUNK_SECONDS / 2 or count < MIN_CHUNK:
            count *= 2
    params, ema = devices.fetch((state.params, state.ema))
    return Fitted(params, ema, metrics)


@dataclass(frozen=True)
class _Loop:
    """A training, placed and compiled.

    Attributes:
      run: (state, data, updates, largest loss) -> (state, means, loss and gradient norm of the last
        update for each member, whether no member diverged).
      state: the state to start from.
      data: the data, on the devices.
      flops: of the matrix products of one update.
      memory: bytes that the program takes.
    """

    run: Callable[..., tuple[TrainState, dict[str, jax.Array], dict[str, jax.Array], jax.Array]]
    state: TrainState
    data: Any
    flops: int
    memory: int


def _compile(training: Training, callbacks: TrainingCallbacks) -> _Loop:
    chunk = chunk_of(training)
    state = chunk.place(callbacks.restore(chunk.start()))
    data = chunk.place_data()
    with devices.on(chunk.mesh):
        traced = chunk.program(state).trace(state, data, np.int32(1), np.float32(0))
        # The loop's body is counted once: this is the cost of one update.
        flops = flops_of(traced.jaxpr)
        compiled = traced.lower().compile()
    needed = memory.of_program(compiled)
    callbacks.on_compiled(needed)
    if len(training.keys) > 1:
        free = hosts.from_first(lambda: memory.of_device()[0])  # the same grouping in all processes
        if needed > free:
            raise _TooMuch(needed, free)
    memory.check(training.name, needed)
    return _Loop(compiled, state, data, flops, needed)


def _divergence(training: Training, last: dict[str, jax.Array], largest, step: int) -> str:
    """The message for the update at which a training diverged."""
    losses, norms = (np.asarray(last[part]) for part in ("loss", "gradient_norm"))
    bad = ~(np.abs(losses) <= largest) | ~np.isfinite(norms)
    member = tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
    loss, norm = float(losses[member]), float(norms[member])
    if not np.isfinite(loss):
        problem = f"the loss is {loss}"
    elif not np.isfinite(norm):
        problem = "the gradient is not finite"
    else:
        problem = f"the loss explodes to {loss:.4g}"
    drawn = _rows_drawn(training, member, step)
    if training.rows is not None:
        drawn = np.asarray(training.rows[member[0]])[drawn]
    drawn = np.unique(drawn)
    more = f", … of {len(drawn)}" if len(drawn) > MAX_ROWS_NAMED else ""
    names = [
        f"{name} {index} of {size}"
        for name, index, size in zip(("seed", "member"), member, bad.shape, strict=False)
        if size > 1
    ]
    which = "".join(f"{name}, " for name in names)
    return (
        f"{training.name}: {problem} at step {step} of {training.steps} ({which}loss {loss:.4g}, "
        f"gradient norm {norm:.4g}; rows of the batch: "
        f"{', '.join(map(str, drawn[:MAX_ROWS_NAMED]))}{more}); the last good checkpoint is kept; "
        "look for outliers in those rows, or try a smaller learning rate in another --workdir"
    )


def _rows_drawn(training: Training, member: tuple[int, ...], step: int) -> np.ndarray:
    """Positions in `data` of the rows drawn for that update, found by drawing row numbers."""
    data = training.seen_by(member)
    leaves, form = jax.tree.flatten(data)
    numbered = form.unflatten([jnp.arange(len(leaves[0]), dtype=jnp.int32), *leaves[1:]])
    key = jax.random.fold_in(training.keys[member], step)
    accumulate = training.accumulate
    keys = jax.random.split(key, accumulate) if accumulate > 1 else key[None]
    batches = [training.draw(numbered, jax.random.split(one)[0]) for one in keys]
    return np.concatenate([np.ravel(jax.tree.leaves(batch)[0]) for batch in batches])
