"""Epochs of Algorithm 4: imagined trajectories join, all are stitched, the best stay."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories, concatenate
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment
from tskd_jax.methods.parts.models import Pricing
from tskd_jax.models import inverse_dynamics
from tskd_jax.models.value import Value
from tskd_jax.stitching.stitch import Config as StitchingConfig
from tskd_jax.stitching.stitch import find_successors, stitch, stitching_warnings
from tskd_jax.teacher import reward_generator
from tskd_jax.teacher.diffuser import SamplingConfig
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

Metrics = list[dict[str, Any]]


def add_share(
    data: Sequence[Trajectories], imagined: Sequence[Trajectories], epoch: int, epochs: int
) -> list[Trajectories]:
    """The n trajectories that an epoch adds, of those that were imagined for all epochs."""
    return [
        concatenate(
            [one, new.select(np.flatnonzero(np.arange(len(new.lengths)) % epochs == epoch))]
        )
        for one, new in zip(data, imagined, strict=True)
    ]


def stitch_all(
    exp: Experiment, data: Sequence[Trajectories], values: Value, pricing: Pricing, epoch: int
) -> list[Trajectories]:
    """One epoch of Algorithm 4: stitch all trajectories, keep the T best."""
    return exp.stage(
        *(stitching, exp.config.stitching, exp.config.reward_sampling, data, values, pricing),
        *(exp.task, len(exp.recorded.lengths)),
        name=f"stitching.{exp.name}.{epoch}",
    )


def stitching(
    config: StitchingConfig,
    reward_sampling: SamplingConfig,
    data: Sequence[Trajectories],
    values: Value,
    pricing: Pricing,
    task: Task,
    most: int,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """Stitch all trajectories of each seed, and keep the best.

    Args:
      config: of stitching.
      reward_sampling: of DDR-II.
      data: of each seed.
      values: V, fitted to that data.
      pricing: what completes a stitch.
      task: the episode limit.
      most: T, how many trajectories are kept.
      keys: (S,).
      callbacks: `report` hears of what looks wrong.
    """
    stitched, metrics = [], []
    for index, one in enumerate(data):
        ensemble, inverse, ddr2 = seeds.of_seed(pricing, index)

        def actions(s, s_next, inverse=inverse):
            return inverse_dynamics.actions_between(inverse, s, s_next)

        def rewards(s, s_next, ddr2=ddr2, key=keys[index]):
            return reward_generator.rewards_between(
                ddr2, reward_sampling, s, s_next, key, on_compiled=callbacks.on_compiled
            )

        successors, found = find_successors(one, ensemble, seeds.of_seed(values, index), config)
        new, walked = stitch(
            one,
            successors,
            actions,
            rewards,
            episode_limit=task.episode_limit,
            acceptance=config.acceptance,
            allow_cycles=config.allow_cycles,
        )
        best = np.sort(np.argsort(-new.returns(), kind="stable")[:most])
        stitched.append(new.select(best))
        metrics.append(found | walked)
        for warning in stitching_warnings(config, found | walked):
            callbacks.report(f"warning: {warning}")
    return stitched, metrics
