"""The paths of a diffuser's plans through the noise levels, as a table to learn from."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import make_sequence_buffer, window
from tskd_jax.diffusion import Sampler, Schedule, guided, sample_path
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.teacher.diffuser import Diffuser, make_sampler
from tskd_jax.teacher.planning import unfinished_window
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training.callbacks import TrainingCallbacks

CHUNK = 8192  # windows in a part of the table, which is cached once computed
AT_ONCE = 1024  # windows planned at once, to bound memory


@struct.dataclass
class Table:
    """Training data: for N windows, the states at which steps begin and what they must predict.

    Attributes:
      x: (N, calls, H, D) the state at each level that the distilled network visits.
      signal: (N, calls, H, D) the x̂_0 that leads from there to the next state, and from the last
        level to the plan.
      condition: (N,) y.
      known: (N, H, D) the entries of a window that are given, and carry no loss.
    """

    x: Leaf
    signal: Leaf
    condition: Leaf
    known: Leaf


def between_levels(teacher: Sampler, few: Sampler, schedule: Schedule) -> np.ndarray:
    """(calls, steps) weights of the states at the teacher's levels in those at the few levels.

    A deterministic step leads from x to a x + b x̂_0. In units of the noise, x / √(1 - ᾱ), this is
    a straight line in √(ᾱ / (1 - ᾱ)), so states between two levels are interpolated linearly.
    """

    def scales(sampler):
        """(√(ᾱ / (1 - ᾱ)), √(1 - ᾱ)) at the levels that a sampler visits."""
        alphas_bar = schedule.alphas_bar[sampler.step_indices(schedule)]
        return np.sqrt(alphas_bar / (1 - alphas_bar)), np.sqrt(1 - alphas_bar)

    (way, noise), (visited, noise_there) = scales(teacher), scales(few)
    weights = np.stack([np.interp(visited, way, one) for one in np.eye(len(way))], 1)
    return weights * noise_there[:, None] / noise[None]


def signals(
    few: Sampler, schedule: Schedule, states: Float[Array, "batch calls_and_one horizon dim"]
) -> Float[Array, "batch calls horizon dim"]:
    """The x̂_0 with which a DDIM step leads from each state to the next: (x' - a x) / b."""
    a, b = (
        jnp.asarray(column, jnp.float32)[None, :, None, None]
        for column in few.coefficients(schedule)[:, :2].T
    )
    return (states[:, 1:] - a * states[:, :-1]) / b


@functools.partial(jax.jit, static_argnames="sampling")
def paths(
    model: Diffuser,
    sampling: SamplingConfig,
    history: Float[Array, "batch context state"],
    length: Array,
    keys: Array,
) -> tuple[Array, Array, Array]:
    """The whole path of each plan, as `planning.plan` samples it.

    Args:
      model: of one seed.
      sampling: of the model; deterministic.
      history: normalised, as for `plan`.
      length: (batch,) L of each history.
      keys: (batch, words) key data of the plans.

    Returns:
      ((batch, steps + 1, H, D) x at every level visited, then x_0; (batch,) y; (batch, H, D) which
      entries of the window are known).
    """

    def of_one(history, length, key):
        w = unfinished_window(model, sampling, history[None], length)
        path = sample_path(
            guided(model.noise, model.params, w.condition, sampling.guidance),
            model.schedule,
            make_sampler(sampling),
            known=w.known,
            known_values=w.known_values,
            low=w.low,
            high=w.high,
            keys=jax.random.wrap_key_data(key)[None],
        )
        return path[:, 0], w.condition[0], w.known[0]

    return jax.vmap(of_one)(history, length, keys)


@functools.partial(jax.jit, static_argnames=("sampling", "few"))
def _rows(model: Diffuser, sampling: SamplingConfig, few: SamplingConfig, *window) -> Table:
    """The table's rows for a batch of windows; arguments as for `paths`."""
    path, condition, known = paths(model, sampling, *window)
    sampler = make_sampler(few)
    weights = between_levels(make_sampler(sampling), sampler, model.schedule)
    states = jnp.einsum("cs,bshd->bchd", jnp.asarray(weights, jnp.float32), path[:, :-1])
    # Known entries are the same at every level, however noisy the rest.
    states = jnp.where(known[:, None], path[:, :1], states)
    states = jnp.concatenate([states, path[:, -1:]], 1)
    target = signals(sampler, model.schedule, states)
    return Table(states[:, :-1], target, condition, known)


@struct.dataclass
class Histories:
    """Recorded histories, in the form that `plan` takes; of one seed.

    Attributes:
      states: (N, C, m) normalised.
      length: (N,) L of each history.
      keys: (N, words) key data of their plans.
      row: (N,) the recorded transition whose state each history ends with.
    """

    states: Leaf
    length: Leaf
    keys: Leaf
    row: Leaf

    def select(self, index: Any) -> "Histories":
        """The histories at `index`."""
        return jax.tree.map(lambda leaf: leaf[index], self)


def draw_histories(
    model: Diffuser, trajectories: Trajectories, rows: np.ndarray, count: int, key: jax.Array
) -> Histories:
    """Draw histories that end with some of these transitions, uniformly.

    Half of the histories are as long as possible, like most in a long trajectory; the others have
    random lengths, like those of trajectories that begin in the middle of an episode.

    Args:
      model: DDR-I of one seed.
      trajectories: the recorded dataset.
      rows: (R,) transitions.
      count: how many histories; with fewer transitions, some are drawn several times.
      key: randomness.
    """
    row_key, short_key, length_key, plan_key = jax.random.split(key, 4)
    chosen = jax.random.choice(row_key, jnp.asarray(rows), (count,), replace=count > len(rows))
    labels = np.zeros(trajectories.size, np.float32)
    buffer = make_sequence_buffer(trajectories, model.states, model.rewards, labels)
    context = model.config.context
    shorter = jax.random.randint(length_key, (count,), 1, context + 1)
    most = jnp.where(jax.random.bernoulli(short_key, shape=(count,)), shorter, context)
    w = window(buffer, chosen, context, most)
    keys = jax.random.key_data(jax.random.split(plan_key, count))
    return jax.tree.map(np.asarray, Histories(w.states, w.current + 1, keys, chosen))


def blurred(model: Diffuser, histories: Histories, blur: float, key: jax.Array) -> Histories:
    """Add Gaussian noise of deviation `blur` to each state, as in DDR-I's training."""
    noise = blur * jax.random.normal(key, histories.states.shape)
    if model.config.relative:
        noise *= jnp.asarray(model.coordinates.scale)[1][None, None]
    return histories.replace(states=np.asarray(histories.states + noise))


def plans(model: Diffuser, sampling: SamplingConfig, histories: Histories) -> tuple:
    """((N, H, D) x_0; (N, H, D) which entries are known); arguments as for `make_table`."""

    def program(*window):
        path, _, known = paths(model, sampling, *window)
        return path[:, -1], known

    return in_batches(program, *_window(histories), size=AT_ONCE)


def make_table(
    model: Diffuser,
    sampling: SamplingConfig,
    few: SamplingConfig,
    histories: Histories,
    key: jax.Array,
    callbacks: TrainingCallbacks,
    name: str,
) -> tuple[Table, np.ndarray]:
    """Tabulate the paths of DDR-I of one seed from these histories, at the levels of `few`.

    If `sampling.history_noise` reports a blur, half of the histories are blurred and reported as
    blurred, like imagined ones; the others are neither, like observed ones.

    Args:
      model: DDR-I of one seed.
      sampling: of DDR-I; deterministic.
      few: of the distilled network.
      histories: N recorded ones.
      key: for the blur.
      callbacks: each part of the table is cached.
      name: prefix of the parts' names.

    Returns:
      (the table; (N,) the recorded transition of each of its rows).
    """
    kinds = list(dict.fromkeys([sampling.of_observed_states(), sampling]))
    parts, rows = [], []
    for index, kind in enumerate(kinds):
        own = histories.select(slice(index, None, len(kinds)))
        if kind.history_noise:
            own = blurred(model, own, kind.history_noise, key)
        for first in range(0, len(own.length), CHUNK):
            chunk = own.select(slice(first, first + CHUNK))

            def compute(chunk=chunk, kind=kind):
                program = functools.partial(_rows, model, kind, few)
                made = in_batches(program, *_window(chunk), size=AT_ONCE)
                return tuple(jax.tree.leaves(made))

            parts.append(Table(*callbacks.cache(f"{name}.{index}.{first}", compute)))
            rows.append(chunk.row)
            callbacks.on_progress(sum(map(len, rows)), len(histories.length), {})
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts), np.concatenate(rows)


def _window(histories: Histories) -> tuple[np.ndarray, ...]:
    return histories.states, histories.length, histories.keys
