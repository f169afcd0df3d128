"""Sequences of tokens: T transitions from one on, and what is known of an episode's end.

The transitions lie on the device as they are; only the sequences of a batch are gathered.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.types import Leaf


class Rows(NamedTuple):
    """All transitions of a dataset, episodes end to end.

    Attributes:
      row: (N,) int32, their numbers.
      left: (N,) int32, transitions behind this one in its episode.
      ends: (N,) bool, whether the environment ended the episode.
      tokens: (N, D) int32.
    """

    row: Leaf
    left: Leaf
    ends: Leaf
    tokens: Leaf


class Sequences(NamedTuple):
    """T transitions of each of a batch.

    Attributes:
      row: (B, T) int32; behind an episode's end the last one.
      tokens: (B, T, D) int32; behind the end `bins`.
      counts: (B, T) bool, whether it is known that they follow: true behind an end by the
        environment, false behind a cut.
    """

    row: Leaf
    tokens: Leaf
    counts: Leaf


def joined(recorded: Trajectories, discount: float, terminal_penalty: float) -> np.ndarray:
    """(N, D) float32 transitions as s, a, r and V, raw units; V = Σ_{k≥1} γ^{k-1} r_{t+k}.

    Args:
      recorded: the dataset.
      discount: γ.
      terminal_penalty: above 0, minus this is the reward of what the environment ended.
    """
    rewards = recorded.rewards
    if terminal_penalty:
        rewards = np.where(recorded.terminals, -terminal_penalty, rewards)
    rewards = rewards.astype(np.float32)
    values = np.roll(recorded.replace(rewards=rewards).returns_to_go(discount), -1)
    values[recorded.ends] = 0
    columns = (recorded.observations, recorded.actions, rewards[:, None], values[:, None])
    return np.concatenate(columns, 1).astype(np.float32)


def make_rows(recorded: Trajectories, tokens: np.ndarray) -> Rows:
    """A dataset as `sequences` reads it, on the host."""
    episode = recorded.episode_of
    row = np.arange(recorded.size)
    return Rows(
        row=row.astype(np.int32),
        left=(recorded.ends[episode] - row).astype(np.int32),
        ends=recorded.terminals[recorded.ends][episode],
        tokens=tokens,
    )


def sequences(rows: Rows, first: jax.Array, transitions: int, end: int) -> Sequences:
    """The T = `transitions` from each of those (B,) on; `end` is the token behind the last."""
    ahead = jnp.arange(transitions)[None]
    left = jnp.asarray(rows.left)[first][:, None]
    index = first[:, None] + jnp.minimum(ahead, left)
    exists = ahead <= left
    tokens = jnp.where(exists[..., None], jnp.asarray(rows.tokens)[index], end)
    ends = jnp.asarray(rows.ends)[first][:, None]
    return Sequences(jnp.asarray(rows.row)[index], tokens, exists | ends)
