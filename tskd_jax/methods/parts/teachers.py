"""Teachers: all that are trained imagine, or only the one that does best in the learned world."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment, Teacher
from tskd_jax.methods.parts.choosing import told
from tskd_jax.methods.parts.imagining import ends_in_doubt, from_episode_starts
from tskd_jax.methods.parts.models import (
    train_imagination_world,
    train_inverse_dynamics,
    train_planner,
    train_world,
    use_of_teacher,
)
from tskd_jax.models.contest import cautious_returns
from tskd_jax.models.referee import Verdict
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks


def train_teachers(exp: Experiment, steps: int) -> list[Teacher]:
    """Train the models that imagine (an input of Algorithm 4); choose among them if asked.

    Args:
      exp: the experiment.
      steps: how many they will imagine in a row, at most.
    """
    config = exp.config.teachers
    inverse, world = train_inverse_dynamics(exp), train_imagination_world(exp, steps)
    planners = [train_planner(exp, index) for index in range(config.count)]
    if config.kept < config.count:
        judge, undisturbed = train_world(exp), replace(exp.config.imagination, action_noise=0.0)
        candidates = [Teacher(planner, inverse, judge) for planner in planners]
        trials = [
            exp.stage(
                *from_episode_starts(exp, undisturbed, candidate, index, config.trials),
                name=f"trial{use_of_teacher(index)}",
                use=".trial",  # the same keys for all: they begin in the same states
            )
            for index, candidate in enumerate(candidates)
        ]
        planners = [exp.stage(best_teacher, exp.task, trials, planners)]
    return [Teacher(planner, inverse, world) for planner in planners]


def best_teacher(
    task: Task,
    trials: Sequence[Sequence[Trajectories]],
    planners: Sequence[Diffuser],
    *,
    callbacks: TrainingCallbacks,
) -> tuple[Diffuser, list[dict[str, float]]]:
    """For each seed, the planner whose whole trajectories have the highest mean return.

    Args:
      task: gives the scores, the termination rule and the episode limit.
      trials: of each planner and seed, trajectories in the learned world.
      planners: with the seeds as leading axis.
      callbacks: told which ones are chosen.

    Returns:
      (the chosen planners, with the seeds as leading axis; the mean normalised score of each
      planner, for each seed).
    """
    chosen, metrics = [], []
    for index, of_seed in enumerate(zip(*trials, strict=True)):
        returns = cautious_returns([_verdict(data, task) for data in of_seed], task)
        means = {
            f"teacher {number}": float(task.normalized_score(one).mean())
            for number, one in enumerate(returns, 1)
        }
        best = int(np.argmax(list(means.values())))
        chosen.append(seeds.of_seed(planners[best], index))
        metrics.append(means)
        callbacks.report(f"chosen in the learned world: {told(best, means)}")
    return seeds.stack_seeds(chosen), metrics


def _verdict(data: Trajectories, task: Task) -> Verdict:
    """Imagined trajectories as one policy's episodes.

    One that the world did not know how to continue ends alive, or before the limit without an end
    (`imagine`).
    """
    cut = ~data.terminals[data.ends] & (data.lengths < task.episode_limit)
    left = cut | ends_in_doubt(data, task)[data.ends]
    return Verdict(data.returns()[None], data.lengths[None], np.zeros((1, len(left))), left[None])
