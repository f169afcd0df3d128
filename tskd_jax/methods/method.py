"""TSKD, top to bottom (Figure 1, Algorithm 4).

dataset ─► DDR-I ─► imagined trajectories ┐
        ─► DDR-II ─► rewards of stitches  ├► stitch ─► filter ─► behavioural cloning
        ─► f(s, s') ─► actions            │
        ─► p_i(s'|s), V(s) ───────────────┘
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tskd_jax.data.selection import kept_episodes
from tskd_jax.data.trajectories import STITCHED, Trajectories, best_episodes, concatenate
from tskd_jax.envs.tasks import Task, get_task
from tskd_jax.machine.types import Config
from tskd_jax.methods.stages import (
    Teacher,
    distil,
    evaluate,
    evaluate_teachers,
    imagine,
    load_recorded,
    named_keys,
    say_memory,
    train_teachers,
)
from tskd_jax.models import value
from tskd_jax.models.inverse_dynamics import actions_between
from tskd_jax.policy import Policy
from tskd_jax.run.run import Run
from tskd_jax.stitching import find_successors, stitch
from tskd_jax.teacher import reward_generator
from tskd_jax.training.seeds import figures_of, pipeline_seeds

# What --stop_after takes, in the order in which they run.
STAGES = (
    "dataset",
    "inverse_dynamics",
    "dynamics",
    "expectation",
    "trajectory_generator",
    "reward_generator",
    "imagination",
    "stitching",
    "student",
    "evaluation",
)


EVERYTHING = 0.99  # share of the states with a better neighbour, above which the radius is idle
REPEATED = 20  # times that an edge is walked on average, above which a run says so


@dataclass(frozen=True)
class Outcome:
    """What a run has made.

    Attributes:
      task: the environment.
      recorded: the dataset.
      imagined: what DDR-I added to it, actions and rewards included, for each seed of the pipeline
        (`seeds.pipeline_seeds`), as the next two.
      teachers: all that was learned before stitching.
      student_data: method -> what its students imitate.
      policies: method -> one for each of `config.seeds`.
      returns: method -> (seeds, episodes); `teacher` where it was evaluated.
    """

    task: Task
    recorded: Trajectories
    imagined: list[Trajectories]
    teachers: list[Teacher]
    student_data: dict[str, list[Trajectories]]
    policies: dict[str, list[Policy]]
    returns: dict[str, np.ndarray]


def tskd(config: Config, run: Run) -> Outcome:
    """The whole method and what it is compared with, each part computed once, kept in the run."""
    task = get_task(config.environment.name)
    recorded = load_recorded(config, task, run)
    run.end_of("dataset")
    say_memory(config, task, run)

    teachers = train_teachers(config, recorded, task, run)
    imagined = imagine(config, teachers, recorded, task, run)
    run.end_of("imagination")

    # Each comparison is the method with parts switched off: what is left shows what a part adds.
    best, _ = best_episodes(recorded, config.filter.share, task.episode_limit)
    student_data = {"bc": [recorded], "filtered_bc": [recorded.select(np.sort(best))]}
    student_data = {name: data * len(teachers) for name, data in student_data.items()}
    # Branches from the middle of episodes have no return to be judged by: they pass by the filter.
    branches = config.imagination.starts != "episodes"
    blended: dict[tuple[bool, bool], tuple[list[Trajectories], dict[str, Any]]] = {}
    for name, imagines, stitches in variants(config):
        added = imagined if imagines and not branches else None
        what = added is not None, stitches
        stitched = _blend(
            name, config, teachers, recorded, added, task, run, stitches, blended.get(what)
        )
        blended.setdefault(what, (stitched, run.figures(f"stitching.{name}")))
        kept = [keep_best(config.filter, data, recorded, task, run.say) for data in stitched]
        if imagines and branches:
            join = replaced if config.imagination.replace else beside
            kept = [join(*both) for both in zip(kept, imagined, strict=True)]
        student_data[name] = kept
    run.end_of("stitching")

    policies = {name: distil(name, config, data, task, run) for name, data in student_data.items()}
    run.end_of("student")
    returns = {name: evaluate(name, config, made, task, run) for name, made in policies.items()}
    if config.evaluation.teacher_episodes:
        returns["teacher"] = evaluate_teachers(config, teachers, task, run)
    run.end_of("evaluation")
    return Outcome(task, recorded, imagined, teachers, student_data, policies, returns)


def blend(
    config: Config,
    teachers: Sequence[Teacher],
    recorded: Trajectories,
    imagined: Sequence[Trajectories] | None,
    task: Task,
    run: Run,
    name: str,
    stitches: bool = True,
) -> tuple[list[Trajectories], dict[str, Any]]:
    """The epochs of Algorithm 4, for each seed: add, value, stitch, keep the T best."""
    seeds = pipeline_seeds(config)
    datasets = [recorded] * len(seeds)
    kept = len(recorded.lengths)
    epochs: list[list[dict[str, Any]]] = []
    for epoch in range(config.stitching.epochs):
        if imagined is not None:
            datasets = [
                concatenate([data, added.select(_share_of(added, epoch, config))])
                for data, added in zip(datasets, imagined, strict=True)
            ]
        # Without stitching nothing but imagination changes the data, and it is not cut to T.
        if not stitches:
            continue
        keys = named_keys(config, f"{name}.{epoch}")
        value_keys, reward_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        values = value.train_seeds(
            config.value, datasets, value_keys, run.hooks(f"{name}.value.{epoch}")
        )
        stitched, figures = [], []
        for teacher, data, (values_of_seed, about_values), key, seed in zip(
            teachers, datasets, values, reward_keys, seeds, strict=True
        ):
            of_seed = f", seed {seed}" if len(seeds) > 1 else ""
            data, about = _stitch(
                config,
                teacher,
                data,
                values_of_seed,
                key,
                task,
                run,
                f"{name}, epoch {epoch}{of_seed}",
            )
            stitched.append(data.select(np.sort(np.argsort(-data.returns(), kind="stable")[:kept])))
            figures.append(about_values | about)
        datasets = stitched
        epochs.append(figures)
    about_seeds = [
        _about(data, [figures[i] for figures in epochs]) for i, data in enumerate(datasets)
    ]
    return datasets, figures_of(seeds, about_seeds)


def _share_of(imagined: Trajectories, epoch: int, config: Config) -> np.ndarray:
    """(E,) the imagined trajectories that are added in that epoch."""
    return np.arange(len(imagined.lengths)) % config.stitching.epochs == epoch


def _stitch(
    config: Config,
    teacher: Teacher,
    data: Trajectories,
    values: value.Value,
    key: jax.Array,
    task: Task,
    run: Run,
    where: str,
) -> tuple[Trajectories, dict[str, Any]]:
    """One epoch's search and walk of one seed; `where` names them on the screen."""
    rewards_hooks = run.hooks(f"{where}, rewards")
    successors, about_search = find_successors(data, teacher.ensemble, values, config.stitching)
    data, about_stitches = stitch(
        data,
        successors,
        lambda s, s_next: actions_between(teacher.inverse_dynamics, s, s_next),
        lambda s, s_next: reward_generator.rewards_between(
            teacher.reward_generator,
            config.reward_sampling,
            s,
            s_next,
            key,
            on_compiled=rewards_hooks.on_compiled,
        ),
        episode_limit=task.episode_limit,
        acceptance=config.stitching.acceptance,
        allow_cycles=config.stitching.allow_cycles,
    )
    about = about_search | about_stitches
    walked, unique = about["edges_walked"], about["edges_unique"]
    if walked > REPEATED * max(unique, 1):
        run.say(
            f"warning: {where}: {walked} stitched transitions repeat {unique} different edges; "
            "what looks like much data is a few stitches walked again and again"
        )
    _warn_of_radius(config, about["better_neighbour_share"], where, run)
    run.say(
        f"{where}: search by {about['search_backend']}; "
        f"{about['edges_walked']} edges walked, {about['edges_unique']} of them unique"
    )
    return data, about


def _about(data: Trajectories, epochs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the epochs made of one seed's data."""
    figures: dict[str, Any] = {"epochs": list(epochs)}
    for index, source in enumerate(("recorded", "imagined", "stitched")):
        figures[f"{source}_transitions"] = int((data.source == index).sum())
    if epochs:
        figures |= {k: v for k, v in epochs[-1].items() if "share" in k}
        for count in (
            "edges_walked",
            "edges_unique",
            "trajectories_stitched",
            "trajectories_replaced",
        ):
            figures[count] = sum(about[count] for about in epochs)
    return figures


def keep_best(
    config: Config,
    data: Trajectories,
    recorded: Trajectories,
    task: Task,
    say: Callable[[str], None] = lambda line: None,
) -> Trajectories:
    """The trajectories that students imitate (the last line but one of Algorithm 4); never none."""
    kept = kept_episodes(config, data, recorded, task.episode_limit)
    if not kept.any():
        returns = data.returns()
        kept[returns.argmax()] = True
        say(
            f"warning: config.filter keeps none of {len(returns)} trajectories; the best one, of "
            f"return {returns.max():.4g}, is used alone"
        )
    return data.select(kept)


def beside(kept: Trajectories, imagined: Trajectories) -> Trajectories:
    """What is kept, and what was imagined from its states."""
    return concatenate([kept, imagined])


def replaced(kept: Trajectories, imagined: Trajectories) -> Trajectories:
    """What is kept, with imagined transitions in place of the recorded ones from their states.

    A recorded transition stays where nothing was imagined from its state, or nothing credible, and
    so do stitched ones. What is cut out of a trajectory leaves it in pieces.
    """
    states = {state.tobytes() for state in imagined.observations}
    stays = np.array([state.tobytes() not in states for state in kept.observations])
    stays |= kept.source == STITCHED
    return concatenate([kept.pieces(stays), imagined])


def _warn_of_radius(config: Config, share: float, where: str, run: Run) -> None:
    if share == 0 or share > EVERYTHING:
        found = "nothing" if share == 0 else "nearly everything"
        run.say(
            f"warning: {where}: {share:.2%} of the states have a better one within "
            f"config.stitching.radius={config.stitching.radius:g}: it finds {found}; distances "
            "are in the units of config.stitching.radius_unit"
        )


def variants(config: Config) -> list[tuple[str, bool, bool]]:
    """(name, imagination on, stitching on) of the method and of what it is without a part."""
    imagines, stitches = config.imagination.enabled, config.stitching.enabled
    variants = [("tskd", imagines, stitches)]
    if config.evaluation.ablations and imagines and stitches:
        variants += [("tskd_no_stitching", True, False), ("tskd_no_imagination", False, True)]
    # By `share` the filter alone is filtered BC, and without a rule it is BC.
    if config.evaluation.ablations and (imagines or stitches) and config.filter.rule == "margin":
        variants += [("filter_alone", False, False)]
    return variants


def _blend(
    name: str,
    config: Config,
    teachers: Sequence[Teacher],
    recorded: Trajectories,
    imagined: Sequence[Trajectories] | None,
    task: Task,
    run: Run,
    stitches: bool,
    known: tuple[list[Trajectories], dict[str, Any]] | None,
) -> list[Trajectories]:
    """A variant's stage; `known` is what another gave that differs in nothing up to here."""
    stage = f"stitching.{name}"

    def compute(_hooks):
        if known is None:
            return blend(config, teachers, recorded, imagined, task, run, stage, stitches=stitches)
        data, figures = known
        return data, {key: value for key, value in figures.items() if key != "seconds"}

    return run.stage(stage, lambda: [recorded] * len(teachers), compute)
