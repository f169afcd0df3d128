"""Selects the trajectories that students imitate (second to last line of Algorithm 4)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tskd_jax.data.trajectories import STITCHED, Trajectories, concatenate
from tskd_jax.fields import NOT_NEGATIVE, between, field, one_of


@dataclass(frozen=True)
class Config:
    """`config.filter`."""

    rule: str = field(
        "margin",
        one_of(["margin", "share", "none"]),
        "margin: Σr > max Σr - ξ (paper); share: Σr at least that of the best `share` of the "
        "recorded transitions; none: everything",
    )
    margin: float = field(500.0, NOT_NEGATIVE, "ξ, return (Appendix B: 500 … 1000 by task)")
    share: float = field(0.1, between(0.001, 1), "of the recorded transitions, by episode return")


def select_episodes(
    config: Config,
    data: Trajectories,
    recorded: Trajectories,
    episode_limit: int,
    report: Callable[[str], None] = lambda line: None,
) -> np.ndarray:
    """Select the episodes of `data` that the filter keeps; if it keeps none, the best one.

    Args:
      config: rule, margin and share.
      data: E ≥ 1 episodes.
      recorded: the dataset that `share` refers to.
      episode_limit: episode limit of the environment.
      report: called with a warning if the rule keeps no episode.

    Returns:
      (E',) indices of the kept episodes, ascending; E' ≥ 1.
    """
    returns = data.returns()
    if config.rule == "none":
        return np.arange(len(returns))
    if config.rule == "margin":
        kept = returns > returns.max() - config.margin
    else:
        best, least = best_episodes(recorded, config.share, episode_limit)
        kept = returns >= least
        if recorded.rewards.mean() < 0:
            # If steps cost reward, a cut episode has a high return only because it was short. As in
            # `best_episodes`, it ranks behind all full episodes.
            cut, last = data.fragments(episode_limit), best[-1]
            if recorded.fragments(episode_limit)[last]:
                kept = ~cut | (returns >= recorded.returns()[last])
            else:
                kept &= ~cut
    if not kept.any():
        kept[returns.argmax()] = True
        report(
            f"warning: config.filter keeps none of {len(returns)} trajectories; the best one, of "
            f"return {returns.max():.4g}, is used alone"
        )
    return np.flatnonzero(kept)


def best_episodes(
    trajectories: Trajectories, share: float, episode_limit: int
) -> tuple[np.ndarray, float]:
    """The episodes of highest return that hold at least the given share of all transitions.

    Fragments (`Trajectories.fragments`) are not full episodes, so they rank behind all full ones.

    Returns:
      (indices of the episodes, best first; the lowest return among them).
    """
    returns = trajectories.returns()
    order = np.lexsort((-returns, trajectories.fragments(episode_limit)))
    count = np.searchsorted(np.cumsum(trajectories.lengths[order]), share * trajectories.size) + 1
    chosen = order[:count]
    return chosen, float(returns[chosen].min())


def substitute(kept: Trajectories, imagined: Trajectories) -> Trajectories:
    """Replace recorded transitions by imagined ones that start in the same states.

    A recorded transition stays if nothing was imagined from its state; a stitched transition always
    stays. An episode is split wherever a transition is removed.

    Args:
      kept: the trajectories that students would imitate.
      imagined: imagined trajectories, whose `origin` gives the recorded states in which they start
        (`Trajectories.started_from`).

    Returns:
      The remaining transitions of `kept`, followed by all of `imagined`.

    Raises:
      ValueError: `imagined` has transitions, but none starts in a recorded state.
    """
    origins = imagined.origin[imagined.origin >= 0]
    if imagined.size and not origins.size:
        raise ValueError("imagined transitions that do not say which recorded states they start in")
    replaced = np.isin(kept.origin, origins)
    return concatenate([kept.pieces(~replaced | (kept.source == STITCHED)), imagined])
