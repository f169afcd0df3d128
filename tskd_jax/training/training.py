"""fit(): the one compiled training loop that every model uses."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import PartitionSpec

from tskd_jax.errors import DivergenceError
from tskd_jax.machine import devices, hosts, memory
from tskd_jax.machine.throughput import flops_of
from tskd_jax.machine.types import Leaf

# A chunk is a number of steps run without looking at the host: long enough to hide the round trip,
# short enough for a progress bar and for a checkpoint on request.
CHUNK_SECONDS = 1.0
FEWEST_AT_ONCE = 4  # updates: entering and leaving the program copies the state of large networks
# A loss this many times the first one's size (or 1, where that is larger) has left for infinity.
EXPLODED = 1e6
ROWS_NAMED = 10


@struct.dataclass
class TrainState:
    """All that training is made of: where it stands and how it goes on.

    With members (an ensemble, a twin, seeds) every leaf has them as its leading axis, but for step.

    Attributes:
      params: the network's parameters.
      ema: their exponential moving average (section 3; for value nets, the target network).
      opt_state: the optimizer's.
      step: () int32, updates done.
      key: () or (members,), the key of the whole training; each step folds its number in, so that
        the batches do not depend on where a run was interrupted.
    """

    params: Leaf
    ema: Leaf
    opt_state: Leaf
    step: Leaf
    key: Leaf


@dataclass(frozen=True)
class Ema:
    """How the moving average follows: ema ← decay · ema + (1 - decay) · params.

    Attributes:
      decay: 0 is a plain copy.
      every: updates between two moves.
      start: up to and with this update the average is a plain copy.
    """

    decay: float = 0.0
    every: int = 1
    start: int = 0


Keep = Callable[[str, Callable[[], tuple[np.ndarray, ...]]], tuple[np.ndarray, ...]]


@dataclass(frozen=True)
class Hooks:
    """What the outside world may do during a training: watch it, save it and bring it back.

    Attributes:
      on_progress: called with (steps done, steps in all, metrics) after each chunk. From the second
        chunk on, when all is compiled, the metrics hold `steps_per_second` and
        `matmul_flops_per_second`, the operations of its matrix products.
      save: called with the state after each chunk; decides itself whether it is time.
      restore: called once with the fresh state; gives back the one to start from.
      on_compiled: called once, before the first update, with the bytes that the program takes:
        data, state and what it needs in between.
      keep: (name of a part, compute) -> the part's arrays: for what is no training and is computed
        part by part. Computes it, or brings back what an earlier process computed.
      within: name of a part -> hooks for a training that is that part of this one.
      say: called with a line that the user should read.
    """

    on_progress: Callable[[int, int, dict[str, float]], None] = lambda done, steps, metrics: None
    save: Callable[[TrainState], None] = lambda state: None
    restore: Callable[[TrainState], TrainState] = lambda state: state
    on_compiled: Callable[[int], None] = lambda size: None
    keep: Keep = lambda part, compute: compute()
    within: Callable[[str], "Hooks"] = lambda part: Hooks()
    say: Callable[[str], None] = lambda line: None


def adam(learning_rate: float, schedule: str, steps: int) -> optax.GradientTransformation:
    """Adam with a `constant` rate, or a `cosine` one that warms up over 2% of the steps."""
    if schedule == "cosine":
        rate = optax.warmup_cosine_decay_schedule(
            0.0, learning_rate, max(1, steps // 50), max(2, steps)
        )
        return optax.adam(rate)
    return optax.adam(learning_rate)


def uniform_rows(
    data: Any,
    key: jax.Array,
    batch_size: int,
    count: jax.Array | int | None = None,
    rows: jax.Array | None = None,
) -> Any:
    """A batch of rows of every leaf, drawn evenly with replacement, spread over the devices.

    Args:
      data: pytree of arrays (N, …).
      key: randomness.
      batch_size: rows a batch.
      count: () how many of the rows are drawn from, the first ones; None: all.
      rows: (R,) which rows are drawn from, of which `count` are the first; None: all, in order.
    """
    if count is None:
        count = len(jax.tree.leaves(data)[0]) if rows is None else len(rows)
    index = devices.by_rows(jax.random.randint(key, (batch_size,), 0, count))
    if rows is not None:
        index = devices.by_rows(rows[index])
    return devices.by_rows(jax.tree.map(lambda leaf: leaf[index], data))


def make_update(
    loss: Callable[[Any, Any, Any, jax.Array], jax.Array],
    draw: Callable[[Any, jax.Array], Any],
    optimizer: optax.GradientTransformation,
    ema: Ema,
    accumulate: int = 1,
) -> Callable[..., tuple[Any, Any, Any, dict[str, jax.Array]]]:
    """One update of one member, as `fit` repeats it; its arguments are explained there.

    Returns:
      (params, average, opt_state, key of the training, updates done, data, whether to report the
      norms of update and parameters) -> (params, average, opt_state, metrics).
    """

    def gradient(params, average, key, data):
        batch_key, loss_key = jax.random.split(key)
        return jax.value_and_grad(loss)(params, average, draw(data, batch_key), loss_key)

    def mean_gradient(params, average, key, data):
        def add(total, key):
            return jax.tree.map(jnp.add, total, gradient(params, average, key, data)), None

        zero = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, zero, jax.random.split(key, accumulate))
        return jax.tree.map(lambda leaf: leaf / accumulate, total)

    def update(params, average, opt_state, key, step, data, report):
        of_step = gradient if accumulate == 1 else mean_gradient
        value, grads = of_step(params, average, jax.random.fold_in(key, step + 1), data)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        average = _move(average, params, step + 1, ema)
        # Of a large network each norm is a per cent or two of the update's time.
        update_norm, parameter_norm = jax.lax.cond(
            report,
            lambda: (optax.tree.norm(updates), optax.tree.norm(params)),
            lambda: (jnp.zeros(()), jnp.zeros(())),
        )
        metrics = {
            "loss": value,
            "gradient_norm": optax.tree.norm(grads),
            "update_norm": update_norm,
            "parameter_norm": parameter_norm,
        }
        return params, average, opt_state, metrics

    return update


def fit(
    name: str,
    init: Callable[[jax.Array], Any],
    loss: Callable[[Any, Any, Any, jax.Array], jax.Array],
    draw: Callable[[Any, jax.Array], Any],
    data: Any,
    optimizer: optax.GradientTransformation,
    *,
    steps: int,
    key: jax.Array,
    accumulate: int = 1,
    ema: Ema | None = None,
    hooks: Hooks | None = None,
    rows: Any = None,
    data_axes: Any = None,
) -> TrainState:
    """Minimise a loss over batches, in compiled chunks with the data on the device.

    Args:
      name: of the model, for messages.
      init: key -> parameters.
      loss: (params, ema, batch, key) -> scalar.
      draw: (data, key) -> batch, whose first leaf has its rows as leading axis. Runs inside the
        compiled program, and says what is spread over the devices (`devices.by_rows`).
      data: pytree of arrays, shared by all members where `data_axes` does not say otherwise.
      optimizer: an optax transformation.
      steps: updates in all.
      key: a key; an array of keys trains one member each, in one program, and a member's result
        does not depend on which others ran beside it. Members of members are (seeds, members) keys.
      accumulate: batches for one update, whose gradients are averaged; one at a time in memory.
      ema: the moving average; by default a plain copy.
      hooks: progress and checkpoints.
      rows: the dataset's row of each row of `data`, for messages; by default they are the same.
        With `data_axes`, a sequence of such, one for each entry of the leading axis.
      data_axes: as `in_axes` of `jax.vmap` for `data`, whose parts may have the leading axis of the
        keys: None where all share.

    Returns:
      The state after `steps` updates, copied to every device.

    Raises:
      DivergenceError: the loss or gradient of a member was not finite, or the loss exploded; the
        message names step, loss, gradient norm and the rows of the batch.
      OutOfMemoryError: the machine cannot hold what the training needs.
    """
    ema, hooks = ema or Ema(), hooks or Hooks()
    seen_by_first = data if data_axes is None else of_first_axis(data, data_axes, 0)
    batch = jax.eval_shape(draw, seen_by_first, key.ravel()[0])
    mesh = devices.mesh(key.shape, (*jax.tree.leaves(batch)[0].shape, 1)[0])
    mesh_axes = devices.MEMBERS[len(devices.MEMBERS) - key.ndim :]
    by_members = PartitionSpec(*mesh_axes)

    def with_members(function, outer: Any = 0, inner: Any = 0):
        """Mapped over each axis of the keys; `outer` and `inner` are its `in_axes`."""
        for axis in reversed(range(key.ndim)):
            function = jax.vmap(
                function, outer if axis == 0 else inner, spmd_axis_name=mesh_axes[axis]
            )
        return function

    def start(key):
        params = init(jax.random.fold_in(key, 0))
        return params, optimizer.init(params)

    update = make_update(loss, draw, optimizer, ema, accumulate)

    def place(state: TrainState) -> TrainState:
        step = devices.copied(state.step, mesh)
        return devices.place(state.replace(step=None), by_members, mesh).replace(step=step)

    def place_data(data: Any) -> Any:
        def where(axis, part):
            return devices.place(part, PartitionSpec(*mesh_axes[: axis is not None]), mesh)

        if data_axes is None:
            return devices.copied(data, mesh)
        return jax.tree.map(where, data_axes, data, is_leaf=lambda axis: axis is None)

    def run_chunk(state: TrainState, data, count, largest):
        def body(carry):
            state, sums, _, done, _ = carry
            is_last = done + 1 == count
            of_all = (0, 0, 0, 0, None)
            params, average, opt_state, metrics = with_members(
                update, (*of_all, data_axes, None), (*of_all, None, None)
            )(state.params, state.ema, state.opt_state, state.key, state.step, data, is_last)
            good = (jnp.abs(metrics["loss"]) <= largest) & jnp.isfinite(metrics["gradient_norm"])
            state = state.replace(
                params=params, ema=average, opt_state=opt_state, step=state.step + 1
            )
            sums = jax.tree.map(lambda total, value: total + jnp.mean(value), sums, metrics)
            of_step = {"loss": metrics["loss"], "gradient_norm": metrics["gradient_norm"]}
            return state, sums, of_step, done + 1, good.all()

        names = ("loss", "gradient_norm", "update_norm", "parameter_norm")
        zeros = {name: jnp.zeros(key.shape) for name in ("loss", "gradient_norm")}
        carry = (state, dict.fromkeys(names, jnp.zeros(())), zeros, 0, True)
        carry = jax.lax.while_loop(lambda c: (c[3] < count) & c[4], body, carry)
        state, sums, of_step, done, good = carry
        means = {name: sums[name] / done for name in ("loss", "gradient_norm")}
        return state, sums | means, of_step, good

    params, opt_state = jax.jit(with_members(start))(key)
    # A copy: donated buffers may not appear twice.
    average = jax.tree.map(jnp.copy, params)
    state = TrainState(params, average, opt_state, jnp.zeros((), jnp.int32), jnp.copy(key))
    state = place(hooks.restore(state))
    data = place_data(data)
    largest = np.float32(np.finfo(np.float32).max)  # until the first loss is known
    with devices.on(mesh):
        of_state = jax.tree.map(lambda leaf: leaf.sharding, state)
        program = jax.jit(
            run_chunk, donate_argnums=0, out_shardings=(of_state, *(of_state.step,) * 3)
        )
        traced = program.trace(state, data, np.int32(1), largest)
        # The loop's body counts once: this is what one update costs.
        flops = flops_of(traced.jaxpr)
        compiled = traced.lower().compile()
    needed = memory.of_program(compiled)
    hooks.on_compiled(needed)
    memory.check(name, needed)
    count, done, warm = 1, int(state.step), False
    while done < steps:
        begin, before = time.perf_counter(), done
        with memory.named(name, needed):
            state, metrics, of_step, good = compiled(
                state, data, np.int32(min(count, steps - done)), largest
            )
            done = int(state.step)
        seconds = hosts.from_first(lambda begin=begin: time.perf_counter() - begin)
        if not good:
            raise DivergenceError(
                _divergence(
                    name,
                    of_step,
                    largest,
                    done,
                    steps,
                    key,
                    draw,
                    data,
                    accumulate,
                    rows,
                    data_axes,
                )
            )
        if not warm:
            largest = np.float32(EXPLODED * max(1.0, float(jnp.abs(of_step["loss"]).max())))
        shown = {key: float(value) for key, value in metrics.items()}
        if warm:
            rate = (done - before) / seconds
            shown |= {"steps_per_second": rate, "matmul_flops_per_second": flops * rate}
        warm = True
        hooks.on_progress(done, steps, shown)
        hooks.save(state)
        # Doubling approaches the target from below, without a guess about the machine.
        if seconds < CHUNK_SECONDS / 2 or count < FEWEST_AT_ONCE:
            count *= 2
    return devices.copied(state, mesh)


def _divergence(
    name, of_step, largest, step, steps, key, draw, data, accumulate, rows, data_axes
) -> str:
    """What is to be said about the update at which a training left for infinity."""
    losses, norms = (np.asarray(of_step[part]) for part in ("loss", "gradient_norm"))
    bad = ~(np.abs(losses) <= largest) | ~np.isfinite(norms)
    member = tuple(int(i) for i in np.unravel_index(bad.argmax(), bad.shape))
    loss, norm = float(losses[member]), float(norms[member])
    if data_axes is not None:
        data = of_first_axis(data, data_axes, member[0])
        rows = None if rows is None else rows[member[0]]
    if not np.isfinite(loss):
        problem = f"the loss is {loss}"
    elif not np.isfinite(norm):
        problem = "the gradient is not finite"
    else:
        problem = f"the loss explodes to {loss:.4g}"
    drawn = _rows_drawn(draw, data, key[member], step, accumulate)
    drawn = np.unique(drawn if rows is None else np.asarray(rows)[drawn])
    more = f", … of {len(drawn)}" if len(drawn) > ROWS_NAMED else ""
    of_member = f"member {' of '.join(map(str, reversed(member)))}, " if member else ""
    return (
        f"{name}: {problem} at step {step} of {steps} ({of_member}loss {loss:.4g}, gradient norm "
        f"{norm:.4g}; rows of the batch: {', '.join(map(str, drawn[:ROWS_NAMED]))}{more}); the "
        "last good checkpoint is kept; look for outliers in those rows, or try a smaller learning "
        "rate in another --workdir"
    )


def of_first_axis(data: Any, axes: Any, index: int | np.ndarray) -> Any:
    """What one entry of the leading axis (or several) sees of `data`.

    Args:
      data: a pytree of arrays.
      axes: a prefix of it: 0 where a part has that axis, None where all share.
      index: a position, or several.
    """
    return jax.tree.map(
        lambda axis, part: part if axis is None else jax.tree.map(lambda leaf: leaf[index], part),
        axes,
        data,
        is_leaf=lambda axis: axis is None,
    )


def _rows_drawn(draw, data, key, step, accumulate) -> np.ndarray:
    """Positions in `data` of the batches of that update: what is drawn of numbered rows."""
    leaves, form = jax.tree.flatten(devices.fetch(data))
    numbered = form.unflatten([jnp.arange(len(leaves[0]), dtype=jnp.int32), *leaves[1:]])
    key = jax.random.fold_in(key, step)
    keys = jax.random.split(key, accumulate) if accumulate > 1 else key[None]
    batches = [draw(numbered, jax.random.split(one)[0]) for one in keys]
    return np.concatenate([np.ravel(jax.tree.leaves(batch)[0]) for batch in batches])


def _move(average: Any, params: Any, step: jax.Array, ema: Ema) -> Any:
    """The moving average after update number `step`."""
    if not ema.decay:
        return params
    moves = (step % ema.every == 0) | (step <= ema.start)
    kept = jnp.where(moves, jnp.where(step <= ema.start, 0.0, ema.decay), 1.0)
    return jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, params)
