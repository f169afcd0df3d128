"""What data is worth to a student."""

import jax
import numpy as np

from tskd_jax.config import Config
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation.rollout import evaluate_students
from tskd_jax.methods import METHODS
from tskd_jax.methods.base import RECORDED_STATES, Experiment, Teacher
from tskd_jax.models import cloning
from tskd_jax.teacher.imagination import imagine
from tskd_jax.teacher.trajectory_generator import SamplingConfig


def score(config: Config, task: Task, data: Trajectories, episodes: int) -> np.ndarray:
    """(seeds, episodes) normalised scores of students of that data, one for each seed."""
    policies, _ = cloning.train(config.student, [data], task, config.seeds, name="trial")
    return task.normalized_score(evaluate_students(policies, task, config.seeds, episodes))


def imagined(
    exp: Experiment, sampling: SamplingConfig, teacher: Teacher, count: int | None = None
) -> Trajectories:
    """What a teacher imagines where the last of `config.methods` begins, all of it accepted.

    That is in recorded states, none twice, or in episode starts, as its `imagines_from` says.

    Args:
      exp: the config, the task and the dataset.
      sampling: of DDR-I.
      teacher: of one seed, a leading axis of one.
      count: of the trajectories; None: as many as an epoch has. From recorded states there are at
        most as many as there are states.
    """
    config, recorded = exp.config, exp.recorded
    states, max_steps = recorded.initial_observations, None
    name = config.methods[-1]
    from_states = METHODS[name].imagines_from == RECORDED_STATES
    if from_states:
        own = config.own[name]
        kept = recorded if own.start_states == "all" else recorded.select(exp.kept(recorded))
        states, max_steps = kept.observations, own.max_steps
        count = min(count or own.states, len(states))
    count = count or config.imagination.trajectories
    rows = np.random.default_rng(0).choice(len(states), count, replace=not from_states)
    return imagine(
        teacher.trajectory_generator,
        sampling,
        exp.task,
        teacher.inverse_dynamics,
        states[rows][None],
        jax.random.key(1)[None],
        max_steps=max_steps,
        chunk=config.imagination.chunk,
    )[0]
