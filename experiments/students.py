"""What data is worth to a student."""

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.evaluation.rollout import evaluate_students
from tskd_jax.student import behavioural_cloning
from tskd_jax.tasks import Task
from tskd_jax.training import Hooks
from tskd_jax.types import Config


def score(config: Config, task: Task, data: Trajectories, episodes: int) -> np.ndarray:
    """(seeds, episodes) normalised scores of students of that data, one for each seed."""
    seeds = tuple(config.seeds)
    policies, _ = behavioural_cloning.train("trial", config.student, data, task, seeds, Hooks())
    return task.normalized_score(evaluate_students(policies, task, seeds, episodes))
