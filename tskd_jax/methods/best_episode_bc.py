"""Behavioural cloning of the best episode: shows what a single good demonstration is worth."""

from tskd_jax.data.selection import best_episodes
from tskd_jax.methods.base import Experiment, Method, NoFields, Outcome


def train(exp: Experiment, _own: NoFields) -> Outcome:
    """Clone the recorded episode of highest return; full episodes rank before fragments."""
    best, _ = best_episodes(exp.recorded, 0.0, exp.task.episode_limit)
    data = [exp.recorded.select(best)]
    return Outcome(exp.distil(data), data)


METHOD = Method(
    "BC of the best episode",
    "behavioural cloning of the single best recorded episode",
    train,
)
