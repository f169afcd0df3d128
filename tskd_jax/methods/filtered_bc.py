"""Behavioural cloning of the best episodes: the one-line filter that every method must beat."""

from dataclasses import dataclass

import numpy as np

from tskd_jax.data.selection import best_episodes
from tskd_jax.fields import between, field
from tskd_jax.methods.base import Experiment, Method, Outcome


@dataclass(frozen=True)
class Config:
    """`config.filtered_bc`."""

    share: float = field(0.1, between(0.001, 1), "of the recorded transitions, by episode return")


def train(exp: Experiment, own: Config) -> Outcome:
    """Clone the episodes of highest return that together hold `share` of the transitions."""
    best, _ = best_episodes(exp.recorded, own.share, exp.task.episode_limit)
    data = [exp.recorded.select(np.sort(best))]
    return Outcome(exp.distil(data), data)


METHOD = Method(
    "filtered BC (best {share:.0%})",
    "behavioural cloning of the best recorded episodes",
    train,
    Config,
)
