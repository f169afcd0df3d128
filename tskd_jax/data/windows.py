"""Windows of states and rewards for the diffusers, gathered on the device."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.types import Leaf


@struct.dataclass
class SequenceBuffer:
    """All episodes as one array of T + 1 states each, normalised, on the device.

    An episode of T transitions has T + 1 states (the last is the next state of its last
    transition) and T rewards, so no window drops an episode's last transition.

    Attributes:
      states: (N + E, m) normalised.
      rewards: (N + E, 1) normalised; the entry at an episode's last state has no meaning.
      row: (N,) the row of s_t for each transition t.
      first, last: (N,) the first and the last row of that transition's episode.
      labels: (N,) the condition y of each transition.
    """

    states: Leaf
    rewards: Leaf
    row: Leaf
    first: Leaf
    last: Leaf
    labels: Leaf


class Window(NamedTuple):
    """H consecutive tokens around each transition of a batch.

    Attributes:
      states: (batch, H, m). Rows after the episode's end repeat its last state.
      rewards: (batch, H, 1).
      state_exists, reward_exists: (batch, H), false after the episode's end. Entries where it is
        false are never a target: how a finished episode would have continued is unknown.
      current: (batch,) position of s_t in the window.
      labels: (batch,) condition y.
    """

    states: Float[Array, "batch horizon state"]
    rewards: Float[Array, "batch horizon 1"]
    state_exists: Bool[Array, "batch horizon"]
    reward_exists: Bool[Array, "batch horizon"]
    current: Int[Array, " batch"]
    labels: Float[Array, " batch"]


def make_sequence_buffer(
    trajectories: Trajectories,
    state_normalizer: Normalizer,
    reward_normalizer: Normalizer,
    labels: np.ndarray,
) -> SequenceBuffer:
    """Prepare trajectories for `window`; `labels` (N,) are the transitions' conditions."""
    episodes = trajectories.episode_of
    row = np.arange(trajectories.size) + episodes
    states = np.zeros(
        (trajectories.size + len(trajectories.lengths), trajectories.observations.shape[1]),
        np.float32,
    )
    rewards = np.zeros((len(states), 1), np.float32)
    states[row] = trajectories.observations
    rewards[row, 0] = trajectories.rewards
    last_rows = row[trajectories.ends] + 1
    states[last_rows] = trajectories.next_observations[trajectories.ends]
    rewards[last_rows] = rewards[last_rows - 1]
    return SequenceBuffer(
        states=state_normalizer.normalize(states),
        rewards=reward_normalizer.normalize(rewards),
        row=jnp.asarray(row, jnp.int32),
        first=jnp.asarray(row[trajectories.starts][episodes], jnp.int32),
        last=jnp.asarray(last_rows[episodes], jnp.int32),
        labels=jnp.asarray(labels, jnp.float32),
    )


class WindowRows(NamedTuple):
    """Rows of a `SequenceBuffer` that hold H consecutive tokens around each transition of a batch.

    Attributes:
      rows: (batch, H); after the episode's end, the row of its last state.
      state_exists, step_exists: (batch, H), false after the episode's end. A step is an action and
        its reward; an episode has one step less than states.
      current: (batch,) position of s_t.
    """

    rows: Int[Array, "batch horizon"]
    state_exists: Bool[Array, "batch horizon"]
    step_exists: Bool[Array, "batch horizon"]
    current: Int[Array, " batch"]


def window_rows(
    buffer: SequenceBuffer,
    transitions: Int[Array, " batch"],
    horizon: int,
    context: int | Int[Array, " batch"],
) -> WindowRows:
    """The rows that `window` reads, for gathering other arrays with the same layout."""
    row, first, last = buffer.row[transitions], buffer.first[transitions], buffer.last[transitions]
    start = jnp.maximum(first, row - context + 1)
    rows = start[:, None] + jnp.arange(horizon)[None]
    return WindowRows(
        rows=jnp.minimum(rows, last[:, None]),
        state_exists=rows <= last[:, None],
        step_exists=rows < last[:, None],
        current=row - start,
    )


def window(
    buffer: SequenceBuffer,
    transitions: Int[Array, " batch"],
    horizon: int,
    context: int | Int[Array, " batch"],
) -> Window:
    """Gather the window around each transition, whose state s_t is the window's current state.

    A window starts min(context, t + 1) - 1 states before s_t. This is the history that Algorithm 1
    holds after t + 1 observations, so training includes the short histories of planning.
    """
    w = window_rows(buffer, transitions, horizon, context)
    return Window(
        states=buffer.states[w.rows],
        rewards=buffer.rewards[w.rows],
        state_exists=w.state_exists,
        reward_exists=w.step_exists,
        current=w.current,
        labels=buffer.labels[transitions],
    )
