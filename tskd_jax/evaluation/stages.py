"""Evaluation stages after the methods: score their policies, and check imagined transitions."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tskd_jax.data.normalizer import moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import Actor, episode_seeds
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import evaluate_students, rollout
from tskd_jax.models import referee
from tskd_jax.models.contest import charged
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.models.world import World
from tskd_jax.policy import Policy
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.planner import planner_of_seed
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

Metrics = list[dict[str, Any]]


def evaluate(
    episodes: int,
    policies: Sequence[Policy | Actor],
    task: Task,
    student_seeds: Sequence[int],
    *,
    callbacks: TrainingCallbacks,
) -> tuple[np.ndarray, Metrics]:
    """(students, episodes) returns; start states are the same for every method (section 6)."""
    returns = evaluate_students(
        policies,
        task,
        student_seeds,
        episodes,
        lambda time, total: callbacks.on_progress(time, total, {}),
    )
    return returns, [{"score": float(task.normalized_score(returns).mean())}]


def judge(
    episodes: int,
    worlds: World,
    policies: Sequence[Policy],
    task: Task,
    starts: np.ndarray,
    rate: float,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[tuple[np.ndarray, np.ndarray], Metrics]:
    """Roll each student out in the learned world of its seed.

    If steps cost reward, none gains by leaving what the world knows: `contest.charged` with the
    lowest `rate` (≤ 0) of the recorded episodes, which is the same for all methods.

    Returns:
      (((students, episodes) returns, whether the episode left the region that the world knows);
      metrics).
    """
    del callbacks
    own = referee.of_each_seed(policies, len(keys))
    verdicts, metrics = [], []
    for index, key in enumerate(keys):
        world = seeds.of_seed(worlds, index)
        verdict = referee.judge_some(world, own[index], task, starts, episodes, key)
        returns = charged(verdict, rate, task)
        verdicts.append((returns, verdict.left))
        metrics.append(
            {
                "score": float(task.normalized_score(returns).mean()),
                "disagreement": float(verdict.disagreement.mean()),
                "left": float(verdict.left.mean()),
            }
        )
    returns, left = map(np.concatenate, zip(*verdicts, strict=True))
    return (returns, left), metrics


def evaluate_teacher(
    episodes: int,
    sampling: SamplingConfig,
    generator: Diffuser,
    inverse_dynamics: InverseDynamics,
    task: Task,
    pipeline_seeds: Sequence[int],
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[np.ndarray, Metrics]:
    """(pipeline seeds, episodes) returns of DDR-I as planner (Algorithm 1 in the simulator)."""
    returns = [
        rollout(
            planner_of_seed(generator, sampling, inverse_dynamics, index, keys[index]),
            task,
            episode_seeds(seed, episodes),
            lambda time, total: callbacks.on_progress(time, total, {}),
        )
        for index, seed in enumerate(pipeline_seeds)
    ]
    returns = np.stack(returns)
    return returns, [{"score": float(task.normalized_score(one.mean()))} for one in returns]


def check_in_simulator(
    count: int,
    task: Task,
    inverse_dynamics: InverseDynamics,
    recorded: Trajectories,
    imagined: Sequence[Trajectories],
    accepted: Sequence[Trajectories],
    *,
    callbacks: TrainingCallbacks,
) -> tuple[None, Metrics]:
    """Errors of `count` recorded, imagined and accepted transitions in the simulator, per seed."""
    del callbacks
    _, deviation = moments(recorded.observations)
    metrics: Metrics = []
    for index in range(len(imagined)):
        claims = {"recorded": recorded, "imagined": imagined[index], "accepted": accepted[index]}
        one = seeds.of_seed(inverse_dynamics, index)
        metrics.append(
            {
                name: simulator_check.check(task, one, data, deviation, count)
                for name, data in claims.items()
                if data.size
            }
        )
    return None, metrics
