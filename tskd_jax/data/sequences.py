"""Sequences of tokens: T consecutive transitions, and what is known after an episode's end.

The device stores each transition once; only the sequences of a batch are gathered.
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
      row: (N,) int32, indices of the transitions.
      left: (N,) int32, number of transitions after this one in its episode.
      ends: (N,) bool, whether the environment ended the episode.
      tokens: (N, D) int32.
    """

    row: Leaf
    left: Leaf
    ends: Leaf
    tokens: Leaf


class Sequences(NamedTuple):
    """T consecutive transitions for each element of a batch.

    Attributes:
      row: (B, T) int32, indices of the transitions; after an episode's end, that of its last one.
      tokens: (B, T, D) int32; after the end, the end token (`bins`).
      counts: (B, T) bool, whether the tokens are known to be correct: after the end true if the
        environment ended the episode, false if the episode was cut.
    """

    row: Leaf
    tokens: Leaf
    counts: Leaf


def joined(recorded: Trajectories, discount: float, terminal_penalty: float) -> np.ndarray:
    """(N, D) float32 transitions as s, a, r and V, raw units; V = Σ_{k≥1} γ^{k-1} r_{t+k}.

    Args:
      recorded: the dataset.
      discount: γ.
      terminal_penalty: if above 0, its negative replaces the reward of terminal transitions.
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
    """Prepare a dataset for `sequences`, on the host."""
    episode = recorded.episode_of
    row = np.arange(recorded.size)
    return Rows(
        row=row.astype(np.int32),
        left=(recorded.ends[episode] - row).astype(np.int32),
        ends=recorded.terminals[recorded.ends][episode],
        tokens=tokens,
    )


def sequences(rows: Rows, first: jax.Array, transitions: int, end: int) -> Sequences:
    """Gather T = `transitions` transitions from each of the indices `first` (B,) on.

    `end` is the token after an episode's last transition.
    """
    ahead = jnp.arange(transitions)[None]
    left = jnp.asarray(rows.left)[first][:, None]
    index = first[:, None] + jnp.minimum(ahead, left)
    exists = ahead <= left
    tokens = jnp.where(exists[..., None], jnp.asarray(rows.tokens)[index], end)
    ends = jnp.asarray(rows.ends)[first][:, None]
    return Sequences(jnp.asarray(rows.row)[index], tokens, exists | ends)
