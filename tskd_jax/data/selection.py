"""Which trajectories are worth imitating (the last line but one of Algorithm 4)."""

import numpy as np

from tskd_jax.data.trajectories import Trajectories, best_episodes
from tskd_jax.machine.types import Config


def kept_episodes(
    config: Config, data: Trajectories, recorded: Trajectories, episode_limit: int
) -> np.ndarray:
    """(E,) bool, which episodes of `data` the filter keeps; perhaps none (`worth_imitating`).

    Args:
      config: `config.filter`.
      data: E episodes.
      recorded: the dataset, of which `share` is a share.
      episode_limit: of the environment.
    """
    returns = data.returns()
    if config.rule == "none":
        return np.ones(len(returns), bool)
    if config.rule == "margin":
        return returns > returns.max() - config.margin
    _, least = best_episodes(recorded, config.share, episode_limit)
    return returns >= least


def worth_imitating(config: Config, recorded: Trajectories, episode_limit: int) -> np.ndarray:
    """(E',) the recorded episodes that the filter keeps; where it keeps none, the best one."""
    kept = kept_episodes(config, recorded, recorded, episode_limit)
    return np.flatnonzero(kept) if kept.any() else np.array([recorded.returns().argmax()])
