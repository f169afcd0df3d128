"""What data is worth to a student."""

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation.rollout import evaluate_students
from tskd_jax.machine.types import Config
from tskd_jax.methods.stages import shorten, starting_states
from tskd_jax.models import cloning as behavioural_cloning
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.imagination import imagine
from tskd_jax.training.training import Hooks


def score(config: Config, task: Task, data: Trajectories, episodes: int) -> np.ndarray:
    """(seeds, episodes) normalised scores of students of that data, one for each seed."""
    seeds = tuple(config.seeds)
    policies, _ = behavioural_cloning.train("trial", config.student, data, task, seeds, Hooks())
    return task.normalized_score(evaluate_students(policies, task, seeds, episodes))


def imagined(
    config: Config,
    sampling: Config,
    recorded: Trajectories,
    task: Task,
    model: Diffuser,
    inverse_dynamics: InverseDynamics,
    count: int | None = None,
) -> Trajectories:
    """What that teacher imagines as `config.imagination` has it, all of it believed.

    `count` says how many trajectories, None as many as an epoch has; from the middle of episodes
    there are at most as many as there are states to begin with.
    """
    first = starting_states(config, recorded, task)
    episodes = config.imagination.starts == "episodes"
    count = count or config.imagination.trajectories
    count = count if episodes else min(count, len(first))
    return imagine(
        model,
        sampling,
        shorten(config, task),
        inverse_dynamics,
        first[np.random.default_rng(0).choice(len(first), count, replace=episodes)],
        jax.random.key(1),
        chunk=config.imagination.chunk,
    )
