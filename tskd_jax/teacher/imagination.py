"""Algorithm 1 as one program: trajectories imagined in lockstep, without a simulator."""

import functools
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from tskd_jax.data.trajectories import IMAGINED, Trajectories, from_columns, ranges
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices, hosts, memory
from tskd_jax.machine.types import Config, Leaf
from tskd_jax.models.inverse_dynamics import InverseDynamics, actions_between
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.trajectory_generator import Plan, no_plan, replan
from tskd_jax.training.training import Keep


@struct.dataclass
class _Progress:
    """Trajectories under way; every leaf but `time` has them as leading axis, of each seed in turn.

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


@functools.partial(jax.jit, static_argnames=("sampling", "task", "seeds"), donate_argnums=3)
def _advance(
    model: Diffuser,
    sampling: Config,
    task: Task,
    progress: _Progress,
    plans: jax.Array,
    enough_ended: jax.Array,
    seeds: int = 1,
) -> _Progress:
    """Up to `plans` plans further, or until no seed has more than `enough_ended` alive."""
    stride, context = sampling.stride, model.config.context
    limit = task.episode_limit
    trajectory_keys = jax.random.wrap_key_data(progress.key)

    def replan_all(time, length, *columns):
        def of_seed(params, *columns):
            history, keys, plan = columns
            of_its_own = model.replace(params=params)
            return replan(of_its_own, sampling, history, length, keys, plan, time, stride)

        if seeds == 1:
            return of_seed(model.params, *columns)
        split = jax.tree.map(lambda leaf: leaf.reshape(-1, seeds, *leaf.shape[1:]), columns)
        latest = jax.vmap(of_seed, (0, *(1 for _ in split)), 1)(model.params, *split)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), latest)

    def body(carry):
        p, count = carry
        later = p.time + stride
        length = jnp.minimum(context, p.time + 1)
        history = jax.lax.dynamic_slice_in_dim(p.states, p.time + 1 - length, context, 1)
        keys = jax.vmap(jax.random.fold_in, (0, None))(trajectory_keys, p.time)
        latest = replan_all(p.time, length, history, keys, p.plan)
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
        alive = (~p.terminal).reshape(-1, seeds).sum(0).max()
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
    on_compiled: Callable[[int], None] = lambda size: None,
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
      on_compiled: as in `Hooks`, of the first chunk.
    """
    return imagine_seeds(
        [model],
        sampling,
        task,
        [inverse_dynamics],
        starts[None],
        key[None],
        chunk=chunk,
        keep=keep,
        on_progress=on_progress,
        on_compiled=on_compiled,
    )[0]


def imagine_seeds(
    models: Sequence[Diffuser],
    sampling: Config,
    task: Task,
    inverse_dynamics: Sequence[InverseDynamics],
    starts: np.ndarray,
    keys: jax.Array,
    *,
    chunk: int = 512,
    keep: Keep = lambda part, compute: compute(),
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_compiled: Callable[[int], None] = lambda size: None,
) -> list[Trajectories]:
    """As `imagine` for each seed, in one program.

    Args:
      models: DDR-I of each seed; they differ in their parameters alone.
      sampling, task, keep, on_progress, on_compiled: as of `imagine`.
      inverse_dynamics: of each seed.
      starts: (seeds, n, m).
      keys: (seeds,).
      chunk: trajectories of all seeds together at a time.
    """
    seeds, count = starts.shape[:2]
    trajectory_keys = np.asarray(
        jax.random.key_data(jax.vmap(lambda key: jax.random.split(key, count))(keys))
    )
    model = models[0]
    if seeds > 1:
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[of.params for of in models])
        model = model.replace(params=params)
    model = devices.copied(model)
    done, told = 0, False

    def tell(needed):
        nonlocal told
        if not told:
            on_compiled(needed)
        told = True
        memory.make_sure(needed)

    def compute(first, size):
        nonlocal done
        rows = slice(first, first + size)

        def report(transitions, before=done):
            on_progress(before + transitions, seeds * count * task.episode_limit)

        part = keep(
            f"{first}-{first + size}",
            lambda: _imagine_batch(
                model, sampling, task, starts[:, rows], trajectory_keys[:, rows], report, tell
            ),
        )
        done += int(part[2].sum())
        return part

    parts = memory.in_chunks(count, max(1, chunk // seeds), compute)
    by_seed = zip(*(_by_seed(seeds, *part) for part in parts), strict=True)
    return [
        _as_trajectories(of_seed, inverse)
        for of_seed, inverse in zip(by_seed, inverse_dynamics, strict=True)
    ]


def _by_seed(seeds: int, states, rewards, lengths, terminal) -> list[tuple[np.ndarray, ...]]:
    """What `_imagine_batch` gave, cut into what each seed imagined."""
    lengths, terminal = lengths.reshape(seeds, -1), terminal.reshape(seeds, -1)
    steps = np.cumsum(lengths.sum(1))[:-1]
    states = np.split(states, steps + lengths.shape[1] * np.arange(1, seeds))
    return list(zip(states, np.split(rewards, steps), lengths, terminal, strict=True))


def _as_trajectories(
    parts: Sequence[tuple[np.ndarray, ...]], inverse_dynamics: InverseDynamics
) -> Trajectories:
    """The trajectories of all chunks of a seed."""
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


def _imagine_batch(model, sampling, task, starts, keys, report, tell):
    """(states (Σ(T+1), m), rewards (ΣT,), lengths (n,), terminal (n,)), raw units.

    `tell` hears the bytes of the first program, before it runs; those after it are smaller.

    Starts are (seeds, n / seeds, m), and the data of keys (seeds, n / seeds, words); results are
    seed by seed.
    """
    seeds, each, size = starts.shape
    starts, count = starts.reshape(-1, size), seeds * each
    keys = keys.reshape(count, -1)
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
        of_seed = [running[running // each == seed] for seed in range(seeds)]
        bucket = devices.padded(1 << (max(map(len, of_seed)) - 1).bit_length())
        # Padding repeats trajectories (or the very first), marked as ended. The seed is the inner
        # axis, so that every device gets as many trajectories of each.
        rows = np.stack([np.resize(some, bucket) for some in of_seed], 1).reshape(-1)
        padding = np.stack([np.arange(bucket) >= len(some) for some in of_seed], 1).reshape(-1)
        kept = np.concatenate(
            [np.arange(len(some)) * seeds + seed for seed, some in enumerate(of_seed)]
        )
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
            with devices.on(mesh):
                step = model, sampling, task, progress, plans, enough_ended, seeds
                if now == 0:
                    tell(memory.of_call(_advance, *step))
                begin = time.perf_counter()
                progress = _advance(*step)
            now = int(progress.time)
            ended, lengths = devices.fetch((progress.terminal, progress.length))
            terminal, lengths = ended[kept], lengths[kept]
            report(int(everything.length.sum() - everything.length[running].sum() + lengths.sum()))
            if hosts.from_first(lambda begin=begin: time.perf_counter() - begin) < 0.5:
                plans *= 2
            alive = np.bincount(running[~terminal] // each, minlength=seeds).max()
            if now >= task.episode_limit or alive <= enough_ended:
                break
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
