"""What the referee chooses offline, where `config.selection` says so."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from tskd_jax.data import selection
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment
from tskd_jax.methods.parts.models import train_world
from tskd_jax.models import cloning, contest, referee
from tskd_jax.models.world import World
from tskd_jax.policy import Policy
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

Configs = tuple[contest.Config, cloning.Config]


def choose_share(exp: Experiment) -> Experiment:
    """The experiment with the filter's share whose students are worth most in the learned world.

    It is chosen once, in the world of the first seed: the dataset is the same for all.
    """
    config, (share, *others) = exp.config, exp.config.selection.shares
    if config.selection.by == "none":
        return exp
    if others:
        configs = config.selection, config.student
        share = exp.stage(best_share, configs, exp.recorded, train_world(exp), exp.task)
    return exp.having(filter=replace(config.filter, rule="share", share=share))


def best_share(
    configs: Configs,
    recorded: Trajectories,
    worlds: World,
    task: Task,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[float, list[dict[str, float]]]:
    """The best of `config.selection.shares`; the score of each is among the metrics."""
    shares = configs[0].shares
    choices: dict[str, Trajectories] = {}
    for share in shares:
        rule = selection.Config(rule="share", share=share)
        kept = selection.select_episodes(rule, recorded, recorded, task.episode_limit)
        choices[f"{share:g}"] = recorded.select(kept)
    scores = _scores(configs, choices, seeds.of_seed(worlds, 0), task, recorded, keys[0], callbacks)
    share = shares[int(np.argmax(list(scores.values())))]
    callbacks.report(f"chosen in the learned world: filter.share={share:g} ({_told(scores)})")
    return share, [scores]


def choose_data(
    exp: Experiment, choices: Mapping[str, Sequence[Trajectories]], name: str = ""
) -> list[Trajectories]:
    """Of each seed, the choice whose students are surely worth most in its learned world.

    The students are those that a method would end with, so that none is trained for this alone
    where the choices are methods, too.

    Args:
      exp: the experiment.
      choices: what each is called -> its data of each seed. The first is what to beat: it stays
        where no other is better beyond doubt (`contest.surely_best`).
      name: of the stages, where they are not the first of a method.

    Returns:
      The data of each seed; those of the last choice where nothing is to be chosen.
    """
    config, data = exp.config, list(choices.values())
    if config.selection.by == "none" or len(choices) < 2:
        return list(data[-1])
    name = name or exp.name
    students = {
        title: exp.distil(own, f"{name}.choice_{number}")
        for number, (title, own) in enumerate(choices.items())
    }
    chosen = exp.stage(
        *(best_data, config.selection, students, train_world(exp), exp.task),
        exp.recorded.initial_observations,
        name=f"choice.{name}",
    )
    return [data[index][seed] for seed, index in enumerate(chosen)]


def best_data(
    config: contest.Config,
    students: Mapping[str, Sequence[Policy]],
    worlds: World,
    task: Task,
    starts: np.ndarray,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[list[int], list[dict[str, float]]]:
    """The number of the best choice for each seed; the score of each is among the metrics."""
    chosen, metrics = [], []
    for index, key in enumerate(keys):
        world = seeds.of_seed(worlds, index)
        own = [referee.of_each_seed(each, len(keys))[index] for each in students.values()]

        def judged(world: World, own=own, key=key) -> list[np.ndarray]:
            verdicts = [
                referee.judge_some(world, some, task, starts, config.episodes, key) for some in own
            ]
            return [task.normalized_score(verdict.returns) for verdict in verdicts]

        scores = judged(world)
        best = contest.surely_best(scores)
        if best and (lacking := world.without()):  # Beyond doubt with the world's own error, too?
            means = [[one.mean() for one in judged(other)] for other in lacking]
            best = contest.surely_best(scores, np.array(means))
        chosen.append(best)
        means = {title: float(one.mean()) for title, one in zip(students, scores, strict=True)}
        metrics.append(means)
        best = list(students)[chosen[-1]]
        callbacks.report(f"chosen in the learned world: {best} ({_told(means)})")
    return chosen, metrics


def _scores(
    configs: Configs,
    choices: Mapping[str, Trajectories],
    world: World,
    task: Task,
    recorded: Trajectories,
    key: jax.Array,
    callbacks: TrainingCallbacks,
) -> dict[str, float]:
    """The mean normalised score of short students of each choice, in the world of one seed."""
    _, verdict = contest.contest(
        *(*configs, list(choices.values()), world, task),
        *(recorded.initial_observations, key, callbacks),
    )
    each = task.normalized_score(verdict.returns).reshape(len(choices), -1).mean(1)
    return dict(zip(choices, map(float, each), strict=True))


def _told(scores: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {score:.1f}" for name, score in scores.items())
