"""Algorithm 1 as one program: trajectories imagined in lockstep, without a simulator."""

import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from tskd_jax import devices, hosts, memory
from tskd_jax.data.trajectories import IMAGINED, Trajectories, from_columns, ranges
from tskd_jax.tasks import Task
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.inverse_dynamics import InverseDynamics, actions_between
from tskd_jax.teacher.trajectory_generator import Plan, no_plan, replan
from tskd_jax.training import Keep
from tskd_jax.types import Config, Leaf


@struct.dataclass
class _Progress:
    """Trajectories under way; every leaf but `time` has them as its leading axis.

    Attributes:
      states: (B, T + stride + C, m) normalised, filled up to `time`.
      rewards: (B, T + stride, 1) normalised.
      length: (B,) transitions so far.
      terminal: (B,) ended by the termination rule.
      plan: the latest, of (B, H, ·).
      key: (B, words) data of their keys.
      time: () t.
    """

    states: Leaf
    rewards: Leaf
    length: Leaf
    terminal: Leaf
    plan: Plan
    key: Leaf
    time: Leaf


@functools.partial(jax.jit, static_argnames=("sampling", "task"), donate_argnums=3)
def _advance(
    model: Diffuser,
    sampling: Config,
    task: Task,
    progress: _Progress,
    plans: jax.Array,
    enough_ended: jax.Array,
) -> _Progress:
    """Up to `plans` plans further, or until at most `enough_ended` trajectories are alive."""
    stride, context = sampling.stride, model.config.context
    limit = task.episode_limit
    trajectory_keys = jax.random.wrap_key_data(progress.key)

    def body(carry):
        p, count = carry
        later = p.time + stride
        length = jnp.minimum(context, p.time + 1)
        history = jax.lax.dynamic_slice_in_dim(p.states, p.time + 1 - length, context, 1)
        keys = jax.vmap(jax.random.fold_in, (0, None))(trajectory_keys, p.time)
        latest = replan(model, sampling, history, length, keys, p.plan, p.time, stride)
        rewards, states = latest.answer(length, stride)
        alive = task.alive(model.states.unnormalize(states))
        # Steps taken of this plan: up to and with the first dead state, or the episode limit.
        survived = jnp.cumprod(alive, axis=1)
        taken = jnp.minimum(1 + survived[:, :-1].sum(1), limit - p.time)
        dies = ~jnp.take_along_axis(alive, taken[:, None] - 1, 1)[:, 0]
        p = p.replace(
            states=jax.lax.dynamic_update_slice_in_dim(p.states, states, p.time + 1, 1),
            rewards=jax.lax.dynamic_update_slice_in_dim(p.rewards, rewards, p.time, 1),
            length=jnp.where(p.terminal, p.length, p.length + taken),
            terminal=p.terminal | dies,
            plan=latest,
            time=None,
        )
        return devices.by_rows(p).replace(time=later), count + 1

    def goes_on(carry):
        p, count = carry
        alive = (~p.terminal).sum()
        return (count < plans) & (p.time < limit) & (alive > enough_ended)

    return jax.lax.while_loop(goes_on, body, (progress, 0))[0]


def imagine(
    model: Diffuser,
    sampling: Config,
    task: Task,
    inverse_dynamics: InverseDynamics,
    starts: np.ndarray,
    key: jax.Array,
    *,
    chunk: int = 512,
    keep: Keep = lambda part, compute: compute(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Trajectories:
    """Trajectories that the teacher imagines from those start states.

    The next state is the imagined one, so nothing but the dataset is used. A trajectory ends by the
    environment's known termination rule or at its episode limit. Once half of a batch has ended the
    rest goes on in a batch of half the size. A trajectory depends on its start and its own key
    alone, so neither `chunk` nor the others change it (but for rounding).

    Args:
      model: DDR-I.
      sampling: `config.sampling`.
      task: its termination rule and episode limit.
      inverse_dynamics: gives the actions.
      starts: (n, m) start states, raw units.
      key: randomness.
      chunk: trajectories at a time, for bounded memory; fewer where it runs out.
      keep: as in `Hooks`; each chunk is a part.
      on_progress: called with (transitions done, an upper bound of all).
    """
    keys = np.asarray(jax.random.key_data(jax.random.split(key, len(starts))))
    model = devices.copied(model)
    done = 0

    def compute(first, size):
        nonlocal done
        rows = slice(first, first + size)

        def report(transitions, before=done):
            on_progress(before + transitions, len(starts) * task.episode_limit)

        part = keep(
            f"{first}-{first + size}",
            lambda: _imagine_batch(model, sampling, task, starts[rows], keys[rows], report),
        )
        done += int(part[2].sum())
        return part

    parts = memory.in_chunks(len(starts), chunk, compute)
    states, rewards, lengths, terminal = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    terminals = np.zeros(lengths.sum(), bool)
    terminals[np.cumsum(lengths) - 1] = terminal
    # A trajectory of T transitions has T + 1 states.
    index = ranges(np.cumsum(lengths + 1) - (lengths + 1), lengths)
    return from_columns(
        observations=states[index],
        actions=actions_between(inverse_dynamics, states[index], states[index + 1]),
        rewards=rewards,
        next_observations=states[index + 1],
        terminals=terminals,
        lengths=lengths,
        source=IMAGINED,
    )


def _imagine_batch(model, sampling, task, starts, keys, report):
    """(states (Σ(T+1), m), rewards (ΣT,), lengths (n,), terminal (n,)), raw units."""
    count, size = starts.shape
    slots = task.episode_limit + sampling.stride
    everything = _Progress(
        states=np.zeros((count, slots + model.config.context, size), np.float32),
        rewards=np.zeros((count, slots, 1), np.float32),
        length=np.zeros(count, np.int32),
        terminal=np.zeros(count, bool),
        plan=jax.tree.map(np.array, no_plan(model, count)),
        key=None,
        time=None,
    )
    everything.states[:, 0] = np.asarray(model.states.normalize(jnp.asarray(starts, jnp.float32)))
    running, now, plans, mesh = np.arange(count), 0, 1, devices.mesh()
    while len(running) and now < task.episode_limit:
        bucket = devices.padded(1 << (len(running) - 1).bit_length())
        rows = np.resize(running, bucket)  # padding repeats trajectories, marked as ended
        padding = np.arange(bucket) >= len(running)
        progress = _Progress(
            states=everything.states[rows],
            rewards=everything.rewards[rows],
            length=everything.length[rows],
            terminal=everything.terminal[rows] | padding,
            plan=Plan(everything.plan.states[rows], everything.plan.rewards[rows]),
            key=keys[rows],
            time=None,
        )
        progress = devices.spread(progress).replace(time=devices.copied(np.int32(now)))
        # Small batches are not worth a compilation of their own.
        enough_ended = bucket // 2 if bucket > 16 else 0
        while True:
            begin = time.perf_counter()
            with devices.on(mesh):
                progress = _advance(model, sampling, task, progress, plans, enough_ended)
            now = int(progress.time)
            ended, lengths = devices.fetch((progress.terminal, progress.length))
            terminal, lengths = ended[: len(running)], lengths[: len(running)]
            report(int(everything.length.sum() - everything.length[running].sum() + lengths.sum()))
            if hosts.from_first(lambda begin=begin: time.perf_counter() - begin) < 0.5:
                plans *= 2
            if now >= task.episode_limit or (~terminal).sum() <= enough_ended:
                break
        kept = slice(0, len(running))
        made = devices.fetch((progress.states, progress.rewards, progress.plan))
        everything.states[running] = made[0][kept]
        everything.rewards[running] = made[1][kept]
        everything.plan.states[running] = made[2].states[kept]
        everything.plan.rewards[running] = made[2].rewards[kept]
        everything.length[running] = lengths
        everything.terminal[running] = terminal
        running = running[~terminal]
    lengths = everything.length.astype(np.int64)
    flat = np.arange(count) * everything.states.shape[1]
    states = everything.states.reshape(-1, size)[ranges(flat, lengths + 1)]
    flat = np.arange(count) * slots
    rewards = everything.rewards.reshape(-1, 1)[ranges(flat, lengths)]
    states = np.array(model.states.unnormalize(states))
    # The start is known exactly: no round trip through the normaliser.
    states[np.cumsum(lengths + 1) - lengths - 1] = starts
    return (
        states,
        np.asarray(model.rewards.unnormalize(rewards))[:, 0],
        lengths,
        everything.terminal,
    )
