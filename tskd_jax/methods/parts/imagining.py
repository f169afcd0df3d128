"""Imagination: what the teachers imagine, and which part of it the ensemble finds likely."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.trajectories import IMAGINED, Trajectories, concatenate, describe
from tskd_jax.envs.simulator import episode_seeds, record
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment, Teacher, integer_seeds
from tskd_jax.methods.parts.models import train_ensemble, use_of_teacher
from tskd_jax.models import dynamics
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.teacher import imagination, trajectory_generator
from tskd_jax.teacher.planner import planner_of_seed
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

Metrics = list[dict[str, Any]]


def imagine_episodes(exp: Experiment, teachers: Sequence[Teacher]) -> list[Trajectories]:
    """Imagine the n trajectories of every epoch, from episode starts to their end (Algorithm 1).

    Each teacher imagines its share of them.
    """
    config = exp.config
    whole = config.imagination.trajectories * config.stitching.epochs
    parts = []
    for index, teacher in enumerate(teachers):
        sampling = config.teacher_sampling(index)
        count, use = config.teachers.share(whole, index), use_of_teacher(index)
        if config.imagination.mode == "environment":
            how = plan_in_simulator, sampling, teacher, exp.task, count
        else:
            how = from_episode_starts(exp, config.imagination, teacher, index, count)
        parts.append(exp.stage(*how, name=f"imagination{use}", use=use))
    return pooled(parts)


def from_episode_starts(
    exp: Experiment, config: imagination.Config, teacher: Teacher, index: int, count: int
) -> tuple[Any, ...]:
    """The stage in which teacher `index` imagines whole trajectories, without the simulator."""
    recorded = exp.recorded
    return (
        *(imagine, config, exp.config.teacher_sampling(index), teacher, exp.task),
        *(recorded.initial_observations, recorded.origin[recorded.starts]),
        *(count, exp.task.episode_limit, True),
    )


def imagine_from_states(
    exp: Experiment, teachers: Sequence[Teacher], recorded: Trajectories, count: int, max_steps: int
) -> list[Trajectories]:
    """Imagine trajectories from at most `count` recorded states, each used at most once.

    With several teachers, each has its own states to imagine from.
    """
    config, parts = exp.config, []
    for index, teacher in enumerate(teachers):
        sampling = config.teacher_sampling(index)
        own, use = slice(index, None, len(teachers)), use_of_teacher(index)
        if not config.teachers.share(count, index):
            continue
        parts.append(
            exp.stage(
                *(imagine, config.imagination, sampling, teacher, exp.task),
                *(recorded.observations[own], recorded.origin[own]),
                *(config.teachers.share(count, index), max_steps, False),
                name=f"imagination{use}",
                use=use,
            )
        )
    return pooled(parts)


def pooled(parts: Sequence[Sequence[Trajectories]]) -> list[Trajectories]:
    """Pool the trajectories of all teachers: (teachers, seeds) -> (seeds,)."""
    return [concatenate(list(of_seed)) for of_seed in zip(*parts, strict=True)]


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

    A step that the world does not know is the last of its trajectory. It counts as terminal, as if
    it had failed. But if steps cost reward, to end would be the best that can happen: there the
    trajectory is truncated.

    Args:
      config: `config.imagination`.
      sampling: how DDR-I is sampled.
      teacher: DDR-I, f, and the world if there is one.
      task: gives the termination rule.
      states: (N, m) states to start from.
      origin: (N,) the rows of the recorded dataset that these states come from.
      count: number of trajectories; if states are not repeated, at most N.
      max_steps: most steps of a trajectory.
      repeat_states: whether several trajectories may start from the same state.
      keys: (S,).
      callbacks: told of progress; finished parts are cached.

    Returns:
      (the trajectories of each seed; metrics of each: mean reward, the share of the trajectories
      that end in doubt, and `describe`).
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
        world=teacher.world,
        random_member=config.world == "random_member",
        action_noise=config.noise_over(max_steps),
        callbacks=callbacks,
    )
    metrics = []
    for index, (data, chosen) in enumerate(zip(imagined, rows, strict=True)):
        doubted = ends_in_doubt(data, task)
        if data.rewards.mean() < 0:
            data = data.replace(terminals=data.terminals & ~doubted)
        imagined[index] = data.started_from(origin[chosen])
        metrics.append(
            {
                "reward_per_step": float(data.rewards.mean()),
                "doubted": float(doubted.sum() / len(data.lengths)),
                "imagined": describe(data),
            }
        )
    return imagined, metrics


def ends_in_doubt(data: Trajectories, task: Task) -> np.ndarray:
    """(N,) bool, the terminal transitions that end an episode though the task's rule does not.

    The learned world does not know how it would have gone on.
    """
    doubted = np.zeros(data.size, bool)
    ends = np.flatnonzero(data.terminals)
    doubted[ends] = task.alive(jnp.asarray(data.next_observations[ends]))
    return doubted


def accept_likely(exp: Experiment, imagined: Sequence[Trajectories]) -> list[Trajectories]:
    """Keep what the ensemble finds likely; without a threshold, keep all and train no ensemble."""
    config = exp.config.imagination
    ensemble = train_ensemble(exp) if config.min_likelihood_quantile else None
    return exp.stage(accept, config, imagined, ensemble)


def accept(
    config: imagination.Config,
    imagined: Sequence[Trajectories],
    ensemble: DynamicsEnsemble | None,
    *,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """Cut each imagined trajectory before the first transition that the ensemble rejects."""
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
