"""Stages that several methods share: rooms that do not know each other, brought together."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tskd_jax.data.trajectories import IMAGINED, Trajectories, concatenate, describe
from tskd_jax.envs.simulator import episode_seeds, record
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment, Teacher, integer_seeds
from tskd_jax.models import baseline, dynamics, inverse_dynamics
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.value import Value
from tskd_jax.stitching.stitch import Config as StitchingConfig
from tskd_jax.stitching.stitch import find_successors, stitch, stitching_warnings
from tskd_jax.teacher import imagination, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser, SamplingConfig
from tskd_jax.teacher.planner import planner_of_seed
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

Metrics = list[dict[str, Any]]


class Pricing(NamedTuple):
    """What decides on a stitch and completes it; the seeds are the leading axis of each.

    Attributes:
      ensemble: p_i(s'|s), whether it is possible.
      inverse_dynamics: f(s, s'), its action.
      reward_generator: DDR-II, its reward.
    """

    ensemble: DynamicsEnsemble
    inverse_dynamics: inverse_dynamics.InverseDynamics
    reward_generator: Diffuser


def train_teacher(exp: Experiment) -> Teacher:
    """What imagines, of recorded transitions only (an input of Algorithm 4)."""
    inverse = _train_inverse_dynamics(exp)
    return Teacher(train_trajectory_generator(exp), inverse)


def train_pricing(exp: Experiment) -> Pricing:
    """What stitches, of recorded transitions only (an input of Algorithm 4)."""
    config = exp.config
    inverse, ensemble = _train_inverse_dynamics(exp), _train_ensemble(exp)
    ddr2 = exp.stage(
        reward_generator.train, config.reward_generator, config.reward_sampling, exp.recorded
    )
    return Pricing(ensemble, inverse, ddr2)


def _train_inverse_dynamics(exp: Experiment) -> inverse_dynamics.InverseDynamics:
    return exp.stage(inverse_dynamics.train, exp.config.inverse_dynamics, exp.recorded, exp.task)


def _train_ensemble(exp: Experiment) -> DynamicsEnsemble:
    return exp.stage(dynamics.train, exp.config.dynamics, exp.recorded)


def train_trajectory_generator(exp: Experiment) -> Diffuser:
    """DDR-I, and before it the baseline where its config asks for one."""
    config, expected = exp.config.trajectory_generator, None
    if trajectory_generator.needs_baseline(config):
        expected = exp.stage(baseline.train, exp.config.baseline, exp.recorded, config.discount)
    kept = exp.kept if config.kept_fraction else None
    return exp.stage(trajectory_generator.train, config, exp.recorded, expected, kept)


def imagine_episodes(exp: Experiment, teacher: Teacher) -> list[Trajectories]:
    """The n trajectories of every epoch, from episode starts to their end (Algorithm 1)."""
    config = exp.config
    count = config.imagination.trajectories * config.stitching.epochs
    if config.imagination.mode == "environment":
        return exp.stage(
            plan_in_simulator, config.sampling, teacher, exp.task, count, name="imagination"
        )
    starts = exp.recorded.starts
    return exp.stage(
        *(imagine, config.imagination, config.sampling, teacher, exp.task),
        *(exp.recorded.observations[starts], starts, count, exp.task.episode_limit, True),
        name="imagination",
    )


def imagine_from_states(
    exp: Experiment, teacher: Teacher, recorded: Trajectories, max_steps: int
) -> list[Trajectories]:
    """The n trajectories of every epoch, from states in the middle of episodes, none twice."""
    config = exp.config
    count = config.imagination.trajectories * config.stitching.epochs
    return exp.stage(
        *(imagine, config.imagination, config.sampling, teacher, exp.task),
        *(recorded.observations, recorded.origin, count, max_steps, False),
        name="imagination",
    )


def plan_in_simulator(
    config: trajectory_generator.SamplingConfig,
    teacher: Teacher,
    task: Task,
    count: int,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """Algorithm 1 to the letter: states are observed, actions executed, rewards imagined."""
    episodes = []
    for index, seed in enumerate(integer_seeds(keys)):
        planner = planner_of_seed(
            teacher.trajectory_generator, config, teacher.inverse_dynamics, index, keys[index]
        )
        executed = record(
            planner,
            task,
            episode_seeds(seed, count),
            lambda time, total: callbacks.on_progress(time, total, {}),
        )
        planned = np.stack(planner.rewards)
        step = np.arange(executed.size) - np.repeat(executed.starts, executed.lengths)
        episodes.append(
            executed.replace(
                rewards=planned[step, executed.episode_of],
                source=np.full_like(executed.source, IMAGINED),
            )
        )
    return episodes, [{"imagined": describe(data)} for data in episodes]


def imagine(
    config: imagination.Config,
    sampling: trajectory_generator.SamplingConfig,
    teacher: Teacher,
    task: Task,
    states: np.ndarray,
    origin: np.ndarray,
    count: int,
    max_steps: int,
    repeat_states: bool,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """Trajectories that DDR-I imagines, for each seed (Algorithm 1, without the simulator).

    Args:
      config: of imagination.
      sampling: of DDR-I.
      teacher: DDR-I and f.
      task: the termination rule.
      states: (N, m) to start from.
      origin: (N,) the rows of the recorded dataset that these states are from.
      count: how many trajectories; without repetition at most N.
      max_steps: of a trajectory.
      repeat_states: whether several may start from one state.
      keys: (S,).
      callbacks: progress, and parts that are kept.
    """
    count = count if repeat_states else min(count, len(states))
    rows = [
        np.random.default_rng(seed).choice(len(states), count, replace=repeat_states)
        for seed in integer_seeds(keys)
    ]
    imagined = imagination.imagine(
        teacher.trajectory_generator,
        sampling,
        task,
        teacher.inverse_dynamics,
        states[np.stack(rows)],
        keys,
        max_steps=max_steps,
        chunk=config.chunk,
        callbacks=callbacks,
    )
    imagined = [
        data.started_from(origin[chosen]) for data, chosen in zip(imagined, rows, strict=True)
    ]
    return imagined, [
        {"reward_per_step": float(data.rewards.mean()), "imagined": describe(data)}
        for data in imagined
    ]


def accept_likely(exp: Experiment, imagined: Sequence[Trajectories]) -> list[Trajectories]:
    """What the ensemble finds likely of the imagined; without a threshold all, and no ensemble."""
    config = exp.config.imagination
    ensemble = _train_ensemble(exp) if config.min_likelihood_quantile else None
    return exp.stage(accept, config, imagined, ensemble)


def accept(
    config: imagination.Config,
    imagined: Sequence[Trajectories],
    ensemble: DynamicsEnsemble | None,
    *,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """Each imagined trajectory up to the first transition that the ensemble finds unlikely."""
    del callbacks
    accepted, quantile = list(imagined), config.min_likelihood_quantile
    if ensemble is not None:
        for index, data in enumerate(imagined):
            one = seeds.of_seed(ensemble, index)
            accepted[index] = data.truncate(dynamics.consistent_lengths(one, data, quantile))
    return accepted, [
        {"share": data.size / max(whole.size, 1)}
        | ({"accepted": describe(data)} if data.size else {})
        for data, whole in zip(accepted, imagined, strict=True)
    ]


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
