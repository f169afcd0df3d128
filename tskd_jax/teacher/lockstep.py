"""Trajectories imagined in lockstep: the compiled loop, and batches that shrink as some end."""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from tskd_jax.data.trajectories import ranges
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices, hosts, memory
from tskd_jax.machine.types import Leaf
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.grounding import Grounding
from tskd_jax.teacher.planning import Plan, replan
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds


@struct.dataclass
class Progress:
    """Trajectories in progress; every leaf except `time` has them as leading axis.

    The seed is the inner part of that axis: row i · S + s is trajectory i of seed s, so every
    device gets the same number of trajectories of each seed.

    Attributes:
      states: (B, T + replan_every + C, m) normalised, filled up to `time`.
      rewards: (B, T + replan_every, 1) normalised.
      actions: (B, T + replan_every, n) raw units, if a world has executed them; else n = 0.
      length: (B,) transitions so far.
      terminal: (B,) ended by the termination rule, or because the world does not know a step.
      plan: the latest plan, (B, H, ·).
      key: (B, words) key data of the trajectories.
      time: () t.
    """

    states: Leaf
    rewards: Leaf
    actions: Leaf
    length: Leaf
    terminal: Leaf
    plan: Plan
    key: Leaf
    time: Leaf


@functools.partial(jax.jit, static_argnames=("sampling", "task", "max_steps"), donate_argnums=4)
def advance(
    model: Diffuser,
    sampling: SamplingConfig,
    task: Task,
    max_steps: int,
    progress: Progress,
    plans: jax.Array,
    enough_ended: jax.Array,
    grounding: Grounding | None = None,
) -> Progress:
    """Advance by up to `plans` plans, or until no seed has more than `enough_ended` alive."""
    steps, context, count = sampling.replan_every, model.config.context, len(model.return_scale)
    trajectory_keys = jax.random.wrap_key_data(progress.key)

    def next_steps(time, length, *columns):
        """(plans, rewards (B, steps, 1), states (B, steps, m), actions, which states are alive)."""

        def of_seed(model, grounding, history, keys, plan):
            latest = replan(model, sampling, history, length, keys, plan, time, steps)
            rewards, states = latest.next_steps(length, steps)
            actions, known = jnp.zeros((*states.shape[:2], 0)), True
            if grounding is not None:
                present = jax.lax.dynamic_index_in_dim(history, length - 1, 1, keepdims=False)
                rewards, states, actions, known = grounding.execute(model, present, states, keys)
            alive = task.alive(model.states.unnormalize(states)) & known
            return latest, rewards, states, actions, alive

        split = jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]), columns)
        result = seeds.map_axis(of_seed, count, (0, 0, 1, 1, 1), 1)(model, grounding, *split)
        # Not with -1, which is undetermined for an array of size 0.
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * count, *x.shape[2:]), result)

    def body(carry):
        p, done = carry
        later = p.time + steps
        length = jnp.minimum(context, p.time + 1)
        history = jax.lax.dynamic_slice_in_dim(p.states, p.time + 1 - length, context, 1)
        keys = jax.vmap(jax.random.fold_in, (0, None))(trajectory_keys, p.time)
        latest, rewards, states, actions, alive = next_steps(p.time, length, history, keys, p.plan)
        # Steps taken of this plan: up to and including the first dead state, or the last step.
        survived = jnp.cumprod(alive, axis=1)
        taken = jnp.minimum(1 + survived[:, :-1].sum(1), max_steps - p.time)
        dies = ~jnp.take_along_axis(alive, taken[:, None] - 1, 1)[:, 0]
        p = p.replace(
            states=jax.lax.dynamic_update_slice_in_dim(p.states, states, p.time + 1, 1),
            rewards=jax.lax.dynamic_update_slice_in_dim(p.rewards, rewards, p.time, 1),
            actions=jax.lax.dynamic_update_slice_in_dim(p.actions, actions, p.time, 1),
            length=jnp.where(p.terminal, p.length, p.length + taken),
            terminal=p.terminal | dies,
            plan=latest,
            time=None,
        )
        return devices.by_rows(p).replace(time=later), done + 1

    def continues(carry):
        p, done = carry
        alive = (~p.terminal).reshape(-1, count).sum(0).max()
        return (done < plans) & (p.time < max_steps) & (alive > enough_ended)

    return jax.lax.while_loop(continues, body, (progress, 0))[0]


def nothing_imagined(
    model: Diffuser,
    sampling: SamplingConfig,
    max_steps: int,
    count: int,
    state_size: int,
    action_size: int,
) -> Progress:
    """Empty arrays on the host for `count` trajectories, without their keys and the time."""
    slots, horizon = max_steps + sampling.replan_every, model.config.horizon
    return Progress(
        states=np.zeros((count, slots + model.config.context, state_size), np.float32),
        rewards=np.zeros((count, slots, 1), np.float32),
        actions=np.zeros((count, slots, action_size), np.float32),
        length=np.zeros(count, np.int32),
        terminal=np.zeros(count, bool),
        plan=Plan(
            np.zeros((count, horizon, state_size), np.float32),
            np.zeros((count, horizon, 1), np.float32),
        ),
        key=None,
        time=None,
    )


def imagine_batch(
    model: Diffuser,
    sampling: SamplingConfig,
    task: Task,
    max_steps: int,
    starts: np.ndarray,
    keys: np.ndarray,
    on_progress: Callable[[int], None],
    on_compiled: Callable[[int], None],
    grounding: Grounding | None = None,
) -> tuple[np.ndarray, ...]:
    """Imagine n trajectories for each seed, in batches that shrink as trajectories end.

    Args:
      model, sampling, task, max_steps: as for `imagine`.
      starts: (S, n, m) start states, raw units.
      keys: (S, n, words) key data of the trajectories.
      on_progress: called with the number of transitions so far.
      on_compiled: called with the bytes of the first program, before it runs; later programs are
        smaller.
      grounding: executes the actions; None: the next state is the imagined one.

    Returns:
      (states (Σ(T+1), m), rewards (ΣT,), actions (ΣT, action_size), lengths (S · n,), terminal
      (S · n,)), raw units, seed by seed. Without grounding action_size is 0: f must find actions.
    """
    seed_count, each, size = starts.shape
    count, keys = seed_count * each, keys.reshape(seed_count * each, -1)
    slots = max_steps + sampling.replan_every
    action_size = 0 if grounding is None else grounding.inverse_dynamics.action_size
    everything = nothing_imagined(model, sampling, max_steps, count, size, action_size)
    normalized = _normalize(model.states, jnp.asarray(starts, jnp.float32))
    everything.states[:, 0] = np.asarray(normalized).reshape(count, size)
    running, now, plans, mesh = np.arange(count), 0, 1, devices.mesh()
    while len(running) and now < max_steps:
        own = [running[running // each == seed] for seed in range(seed_count)]
        bucket = devices.padded(1 << (max(map(len, own)) - 1).bit_length())
        # Padding repeats trajectories (or trajectory 0, if a seed has none left), marked as ended.
        rows = np.stack([np.resize(index, bucket) for index in own], 1).reshape(-1)
        padding = np.stack([np.arange(bucket) >= len(index) for index in own], 1).reshape(-1)
        kept = np.concatenate(
            [np.arange(len(index)) * seed_count + seed for seed, index in enumerate(own)]
        )
        progress = Progress(
            states=everything.states[rows],
            rewards=everything.rewards[rows],
            actions=everything.actions[rows],
            length=everything.length[rows],
            terminal=everything.terminal[rows] | padding,
            plan=Plan(everything.plan.states[rows], everything.plan.rewards[rows]),
            key=keys[rows],
            time=None,
        )
        progress = devices.spread(progress).replace(time=devices.copied(np.int32(now)))
        # Small batches are not worth their own compilation.
        enough_ended = bucket // 2 if bucket > 16 else 0
        while True:
            with devices.on(mesh):
                step = (model, sampling, task, max_steps, progress, plans, enough_ended, grounding)
                if now == 0:
                    on_compiled(memory.of_call(advance, *step))
                begin = time.perf_counter()
                progress = advance(*step)
            now = int(progress.time)
            ended, lengths = devices.fetch((progress.terminal, progress.length))
            terminal, lengths = ended[kept], lengths[kept]
            ended_before = everything.length.sum() - everything.length[running].sum()
            on_progress(int(ended_before + lengths.sum()))
            if hosts.from_first(lambda begin=begin: time.perf_counter() - begin) < 0.5:
                plans *= 2
            alive = np.bincount(running[~terminal] // each, minlength=seed_count).max()
            if now >= max_steps or alive <= enough_ended:
                break
        made = devices.fetch((progress.states, progress.rewards, progress.actions, progress.plan))
        everything.states[running] = made[0][kept]
        everything.rewards[running] = made[1][kept]
        everything.actions[running] = made[2][kept]
        everything.plan.states[running] = made[3].states[kept]
        everything.plan.rewards[running] = made[3].rewards[kept]
        everything.length[running] = lengths
        everything.terminal[running] = terminal
        running = running[~terminal]
    lengths = everything.length.astype(np.int64)

    def raw(normalizers, column):
        """(count, T', ·) in raw units."""
        units = _unnormalize(normalizers, column.reshape(seed_count, -1, column.shape[-1]))
        return np.array(units).reshape(column.shape)

    states, rewards = raw(model.states, everything.states), raw(model.rewards, everything.rewards)
    # The start is known exactly: avoid the round trip through the normaliser.
    states[:, 0] = starts.reshape(count, size)
    first = np.arange(count)
    taken = ranges(first * slots, lengths)
    return (
        states.reshape(-1, size)[ranges(first * states.shape[1], lengths + 1)],
        rewards.reshape(-1)[taken],
        everything.actions.reshape(count * slots, action_size)[taken],
        lengths,
        everything.terminal,
    )


_normalize = jax.jit(jax.vmap(lambda normalizer, x: normalizer.normalize(x)))
_unnormalize = jax.jit(jax.vmap(lambda normalizer, x: normalizer.unnormalize(x)))
