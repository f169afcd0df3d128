"""Choices that the referee makes offline, if `config.selection` asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

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
    """The experiment with the filter share whose students score best in the learned world.

    Briefly trained students of every share find a promising one. They are not the students that a
    method ends with: on little data, longer training makes students worse. So if the configured
    share is among `config.selection.shares`, the promising one replaces it only if fully trained
    students confirm it.

    Where the filter is off, or there is one share to choose, the filter stays as it is configured.

    The share is chosen once, in the first seed's world, since all seeds share the dataset.
    """
    config, shares = exp.config, exp.config.selection.shares
    if config.selection.by == "none" or config.filter.rule == "none" or len(shares) == 1:
        return exp
    configs = config.selection, config.student
    share = exp.stage(best_share, configs, exp.recorded, train_world(exp), exp.task)
    if share != config.filter.share and config.filter.share in shares:
        share = _confirmed(exp, sorted((share, config.filter.share)))
    return _keeping(exp, share)


def _keeping(exp: Experiment, share: float) -> Experiment:
    return exp.having(filter=replace(exp.config.filter, rule="share", share=share))


def _confirmed(exp: Experiment, shares: Sequence[float]) -> float:
    """The better of two shares (the smaller one first), judged by fully trained students."""
    students = {}
    for share in shares:
        keeping = _keeping(exp, share)
        title = f"{share:g}"
        students[title] = keeping.distil(keeping.select([exp.recorded]), f"share_{title}")
    number = exp.stage(
        *(confirmed_share, exp.config.selection, students, train_world(exp), exp.task),
        exp.recorded.initial_observations,
    )
    return shares[number]


def best_share(
    configs: Configs,
    recorded: Trajectories,
    worlds: World,
    task: Task,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[float, list[dict[str, float]]]:
    """The largest of `config.selection.shares` whose short students are as good as the best ones.

    `contest.largest_of_the_best` decides; the metrics hold the mean score of each share.
    """
    config, student = configs
    choices = data_of_shares(config, recorded, task)
    students = contest.short_students(config, student, list(choices.values()), task, callbacks)
    world, starts = seeds.of_seed(worlds, 0), recorded.initial_observations
    judged = dict(zip(choices, students, strict=True))
    scores, means, _ = _judged(config, judged, world, task, starts, keys[0])
    number = contest.largest_of_the_best(scores)
    callbacks.report(f"chosen in the learned world: filter.share={told(number, means)}")
    return sorted(config.shares)[number], [means]


def data_of_shares(
    config: contest.Config, recorded: Trajectories, task: Task
) -> dict[str, Trajectories]:
    """What the filter keeps with each of `config.shares`, the smallest first, by title."""
    choices = {}
    for share in sorted(config.shares):
        rule = selection.Config(rule="share", share=share)
        kept = selection.select_episodes(rule, recorded, recorded, task.episode_limit)
        choices[f"{share:g}"] = recorded.select(kept)
    return choices


def confirmed_share(
    config: contest.Config,
    students: Mapping[str, Sequence[Policy]],
    worlds: World,
    task: Task,
    starts: np.ndarray,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[int, list[dict[str, float]]]:
    """The index of the share to keep, which `contest.largest_of_the_best` decides.

    The metrics hold the mean score of each share.
    """
    world = seeds.of_seed(worlds, 0)
    scores, means, _ = _judged(config, students, world, task, starts, keys[0])
    number = contest.largest_of_the_best(scores)
    callbacks.report(f"by whole students: filter.share={told(number, means)}")
    return number, [means]


def choose_data(
    exp: Experiment, choices: Mapping[str, Sequence[Trajectories]], name: str = ""
) -> list[Trajectories]:
    """For each seed, the data whose students are clearly the best in its learned world.

    The students are those that a method would end with. So if a choice is also what another method
    imitates, no student is trained for the comparison alone.

    Args:
      exp: the experiment.
      choices: title -> data of each seed. The first choice is the one to beat: it stays unless
        another is surely better and does not fail worse (`contest.surely_best`).
      name: of the stages; by default the experiment's.

    Returns:
      The data of each seed; that of the last choice if there is nothing to choose.
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
    """The index of the best choice for each seed (`contest.surely_best`).

    The metrics hold what decides, each choice's mean score as `contest.counted` and that of its
    worst tenth, and under `chosen` the index.
    """
    chosen, metrics = [], []
    for index, key in enumerate(keys):
        own = {
            title: referee.of_each_seed(each, len(keys))[index] for title, each in students.items()
        }
        world = seeds.of_seed(worlds, index)
        scores, _, left = _judged(config, own, world, task, starts, key)
        number = contest.surely_best(scores, left)
        chosen.append(number)
        counts = zip(own, contest.counted(scores, left), strict=True)
        means = {title: float(one.mean()) for title, one in counts}
        worst = contest.worst_tenths(scores, left)
        titled = zip(own, worst, strict=True)
        worst_of = {f"{title}: worst tenth": one for title, one in titled}
        metrics.append(means | worst_of | {"chosen": float(number)})
        callbacks.report(f"chosen in the learned world: {told(number, means, worst)}")
    return chosen, metrics


def _judged(
    config: contest.Config,
    students: Mapping[str, Sequence[Policy]],
    world: World,
    task: Task,
    starts: np.ndarray,
    key: jax.Array,
) -> tuple[list[np.ndarray], dict[str, float], list[np.ndarray]]:
    """Score the students of each choice in the world, all from the same states and with one key.

    Returns:
      (normalised scores of each choice, (students, episodes), of `contest.cautious_returns`; their
      mean by title; of each choice, which episodes left what the world knows).
    """
    verdicts = [
        referee.judge_some(world, own, task, starts, config.episodes, key)
        for own in students.values()
    ]
    scores = [task.normalized_score(one) for one in contest.cautious_returns(verdicts, task)]
    means = {title: float(one.mean()) for title, one in zip(students, scores, strict=True)}
    return scores, means, [verdict.left for verdict in verdicts]


def told(number: int, means: Mapping[str, float], worst: Sequence[float] = ()) -> str:
    """The title of a choice, and in brackets what decided about all."""
    ends = [f", worst tenth {one:.1f}" for one in worst] or [""] * len(means)
    each = [f"{title}: {means[title]:.1f}{end}" for title, end in zip(means, ends, strict=True)]
    return f"{list(means)[number]} ({'; '.join(each)})"
