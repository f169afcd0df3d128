"""An epoch of Algorithms 4 and 5: add imagined trajectories, stitch all, keep the best."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories, concatenate
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment
from tskd_jax.methods.parts.pricing import DiffusionPricing, Pricing
from tskd_jax.models.value import Value
from tskd_jax.stitching.stitch import stitch, stitching_warnings
from tskd_jax.stitching.successors import Config as StitchingConfig
from tskd_jax.stitching.successors import find_successors
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

Metrics = list[dict[str, Any]]
COMPARED = 4096  # most recorded transitions whose disagreement sets the limit for stitches


def add_share(
    data: Sequence[Trajectories], imagined: Sequence[Trajectories], epoch: int, epochs: int
) -> list[Trajectories]:
    """Add one epoch's n trajectories, out of those imagined for all epochs, to the data."""
    return [
        concatenate(
            [one, new.select(np.flatnonzero(np.arange(len(new.lengths)) % epochs == epoch))]
        )
        for one, new in zip(data, imagined, strict=True)
    ]


def stitch_all(
    exp: Experiment, data: Sequence[Trajectories], values: Value, pricing: Pricing, epoch: int
) -> list[Trajectories]:
    """Run one epoch of Algorithm 4 or 5: stitch all trajectories, keep the T best."""
    return exp.stage(
        *(stitching, exp.config.stitching, data, values, pricing),
        *(exp.task, exp.recorded),
        name=f"stitching.{exp.name}.{epoch}",
    )


def stitching(
    config: StitchingConfig,
    data: Sequence[Trajectories],
    values: Value,
    pricing: Pricing,
    task: Task,
    recorded: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """Stitch all trajectories of each seed, and keep the best.

    Args:
      config: `config.stitching`.
      data: the trajectories of each seed.
      values: V, fitted to that data.
      pricing: decides on stitches and completes them.
      task: gives the episode limit.
      recorded: T trajectories, as many as are kept.
      keys: (S,).
      callbacks: told of progress, in transitions; `report` is called with warnings.
    """
    stitched, metrics = [], []
    total, before = sum(one.size for one in data), 0
    for index, one in enumerate(data):

        def on_progress(done: int, before: int = before) -> None:
            callbacks.on_progress(before + done, total, {})

        models, key = seeds.of_seed(pricing, index), keys[index]
        successors, found = find_successors(
            one, models.ensemble, seeds.of_seed(values, index), config, on_progress
        )
        before += one.size
        if config.max_disagreement_quantile:
            quantile = config.max_disagreement_quantile
            successors, share = refuse_disputed(
                one, successors, recorded, models, quantile, key, callbacks
            )
            found |= {"refused_share": share}
        new, walked = stitch(
            one,
            successors,
            functools.partial(models.price, key=key, callbacks=callbacks),
            episode_limit=task.episode_limit,
            acceptance=config.acceptance,
            allow_cycles=config.allow_cycles,
        )
        best = np.sort(np.argsort(-new.returns(), kind="stable")[: len(recorded.lengths)])
        stitched.append(new.select(best))
        metrics.append(found | walked)
        for warning in stitching_warnings(config, found | walked):
            callbacks.report(f"warning: {warning}")
    return stitched, metrics


def refuse_disputed(
    data: Trajectories,
    successors: np.ndarray,
    recorded: Trajectories,
    pricing: Pricing,
    quantile: float,
    key: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[np.ndarray, float]:
    """Refuse stitches whose rewards DDR-II's members disagree about.

    Args:
      data: N transitions.
      successors: (N,) from `find_successors`.
      recorded: the dataset. What is stitched may hold none of it any more.
      pricing: of one seed; its DDR-II has several members.
      quantile: a stitch is refused if the disagreement about its reward exceeds this quantile of
        the disagreement about recorded transitions.
      key: random key.
      callbacks: as for `Pricing.price`.

    Returns:
      ((N,) successors, -1 where a stitch is refused; share of the stitches that are refused).
    """
    assert isinstance(pricing, DiffusionPricing)
    edges = np.flatnonzero(successors >= 0)
    if not len(edges):
        return successors, 0.0
    rows = np.random.default_rng(0).permutation(recorded.size)[:COMPARED]
    known = recorded.observations[rows], recorded.next_observations[rows]
    limit = np.quantile(pricing.disagreement(*known, key, callbacks), quantile)
    pairs = data.observations[edges], data.observations[successors[edges]]
    disputed = pricing.disagreement(*pairs, key, callbacks) > limit
    kept = successors.copy()
    kept[edges[disputed]] = -1
    return kept, float(disputed.mean())
