"""TSKD, top to bottom (Figure 1, Algorithm 4).

dataset ─► DDR-I ─► imagined trajectories ┐
        ─► DDR-II ─► rewards of stitches  ├► stitch ─► filter ─► behavioural cloning
        ─► f(s, s') ─► actions            │
        ─► p_i(s'|s), V(s) ───────────────┘
"""

import zlib
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from tskd_jax.data import load
from tskd_jax.data.trajectories import (
    IMAGINED,
    Trajectories,
    best_episodes,
    concatenate,
    describe,
)
from tskd_jax.errors import DatasetError
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import episode_seeds, rollout
from tskd_jax.run import Run
from tskd_jax.stitching import dynamics, find_successors, stitch, value
from tskd_jax.student import behavioural_cloning
from tskd_jax.student.policy import Policy
from tskd_jax.tasks import Task, get_task
from tskd_jax.teacher import (
    imagination,
    inverse_dynamics,
    reward_generator,
    trajectory_generator,
)
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.inverse_dynamics import InverseDynamics, actions_between
from tskd_jax.teacher.planner import Planner
from tskd_jax.types import Config

# What --stop_after takes, in the order in which they run.
STAGES = (
    "dataset",
    "inverse_dynamics",
    "dynamics",
    "trajectory_generator",
    "reward_generator",
    "imagination",
    "stitching",
    "student",
    "evaluation",
)


@dataclass(frozen=True)
class Teacher:
    """Everything that is learned before stitching."""

    inverse_dynamics: InverseDynamics
    ensemble: dynamics.DynamicsEnsemble
    trajectory_generator: Diffuser
    reward_generator: Diffuser


@dataclass(frozen=True)
class Outcome:
    """What a run has made.

    Attributes:
      task: the environment.
      recorded: the dataset.
      imagined: what DDR-I added to it, actions and rewards included.
      student_data: method -> what its students imitate.
      teacher: all that was learned before stitching.
      policies: method -> one for each seed.
      returns: method -> (seeds, episodes); `teacher` where it was evaluated.
    """

    task: Task
    recorded: Trajectories
    imagined: Trajectories
    teacher: Teacher
    student_data: dict[str, Trajectories]
    policies: dict[str, list[Policy]]
    returns: dict[str, np.ndarray]


def tskd(config: Config, run: Run) -> Outcome:
    """The whole method and what it is compared with, each part computed once, kept in the run."""
    task = get_task(config.environment.name)
    recorded = _load(config, task, run)
    run.end_of("dataset")

    teacher = train_teacher(config, recorded, task, run)
    imagined = imagine(config, teacher, recorded, task, run)
    run.end_of("imagination")

    # Each comparison is the method with parts switched off: what is left shows what a part adds.
    best, _ = best_episodes(recorded, config.filter.share, task.episode_limit)
    student_data = {"bc": recorded, "filtered_bc": recorded.select(np.sort(best))}
    for name, imagines, stitches in _variants(config):
        added = imagined if imagines else None
        stitched = _blend(name, config, teacher, recorded, added, task, run, stitches)
        student_data[name] = keep_best(config.filter, stitched, recorded, task)
    run.end_of("stitching")

    policies = {name: _distil(name, config, data, task, run) for name, data in student_data.items()}
    run.end_of("student")
    returns = {name: _evaluate(name, config, made, task, run) for name, made in policies.items()}
    if config.evaluation.teacher_episodes:
        returns["teacher"] = _evaluate_teacher(config, teacher, task, run)
    run.end_of("evaluation")
    return Outcome(task, recorded, imagined, teacher, student_data, policies, returns)


def train_teacher(config: Config, recorded: Trajectories, task: Task, run: Run) -> Teacher:
    """Inverse dynamics, the dynamics ensemble, DDR-I and DDR-II, on recorded transitions only."""

    def fresh_inverse():
        return inverse_dynamics.create(config.inverse_dynamics, recorded, task)

    def fresh_generator():
        return trajectory_generator.create(config.trajectory_generator, recorded)

    def fresh_rewards():
        return reward_generator.create(config.reward_generator, recorded)

    inverse = run.stage(
        "inverse_dynamics",
        fresh_inverse,
        lambda hooks: inverse_dynamics.train(
            fresh_inverse(), config.inverse_dynamics, recorded, _key(config, "inverse"), hooks
        ),
    )
    run.end_of("inverse_dynamics")
    ensemble = run.stage(
        "dynamics",
        lambda: dynamics.create(config.dynamics, recorded, config.dynamics.elites),
        lambda hooks: dynamics.train(config.dynamics, recorded, _key(config, "dynamics"), hooks),
    )
    run.end_of("dynamics")
    generator = run.stage(
        "trajectory_generator",
        fresh_generator,
        lambda hooks: trajectory_generator.train(
            fresh_generator(), recorded, _key(config, "trajectory_generator"), hooks
        ),
    )
    run.end_of("trajectory_generator")
    rewards = run.stage(
        "reward_generator",
        fresh_rewards,
        lambda hooks: reward_generator.train(
            fresh_rewards(),
            recorded,
            _key(config, "reward_generator"),
            hooks,
            config.reward_sampling,
        ),
    )
    run.end_of("reward_generator")
    return Teacher(inverse, ensemble, generator, rewards)


def imagine(
    config: Config, teacher: Teacher, recorded: Trajectories, task: Task, run: Run
) -> Trajectories:
    """The n trajectories of every epoch (Algorithm 4, line 2), cut where they stop being credible.

    DDR-I does not change between epochs, so all are imagined at once.
    """

    def compute(hooks):
        key = _key(config, "imagination")
        count = config.imagination.trajectories * config.stitching.epochs
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
        first = recorded.initial_observations
        starts = first[np.random.default_rng(seed).integers(len(first), size=count)]
        whole = imagination.imagine(
            teacher.trajectory_generator,
            config.sampling,
            task,
            teacher.inverse_dynamics,
            starts,
            key,
            chunk=config.imagination.chunk,
            on_progress=lambda done, total: hooks.on_progress(done, total, {}),
        )
        believed = whole
        if config.imagination.consistency:
            lengths = dynamics.consistent_lengths(
                teacher.ensemble, whole, config.imagination.consistency
            )
            believed = whole.truncate(lengths)
        figures = {
            "imagined_mean_length": float(whole.lengths.mean()),
            "imagined_mean_return": float(whole.returns().mean()),
            "believed_mean_length": float(believed.size / len(whole.lengths)),
            "reward_per_step": float(whole.rewards.mean()),
            "recorded_reward_quantiles": np.quantile(recorded.rewards, [0, 0.25, 0.5, 0.75, 1]),
            "imagined": describe(whole),
        }
        if believed.size:
            figures["believed"] = describe(believed)
        if config.evaluation.simulator_check:
            deviation = recorded.observations.std(0)
            for name, claimed in (
                ("recorded", recorded),
                ("imagined", whole),
                ("believed", believed),
            ):
                if claimed.size:
                    figures[f"simulator_{name}"] = simulator_check.check(
                        task,
                        teacher.inverse_dynamics,
                        claimed,
                        deviation,
                        config.evaluation.simulator_check,
                    )
        return believed, figures

    if not config.imagination.enabled:
        return recorded.select(np.arange(0))
    return run.stage("imagination", lambda: recorded, compute)


def blend(
    config: Config,
    teacher: Teacher,
    recorded: Trajectories,
    imagined: Trajectories | None,
    task: Task,
    run: Run,
    name: str,
    stitches: bool = True,
) -> tuple[Trajectories, dict[str, Any]]:
    """Algorithm 4, lines 1 to 20: K epochs of adding, valuing, stitching and keeping the T best."""
    data = recorded
    count = len(recorded.lengths)
    figures: dict[str, Any] = {"epochs": []}
    for epoch in range(config.stitching.epochs):
        if imagined is not None:
            share = np.arange(len(imagined.lengths)) % config.stitching.epochs == epoch
            data = concatenate([data, imagined.select(share)])
        if stitches:
            key = _key(config, f"{name}.{epoch}")
            value_key, reward_key = jax.random.split(key)
            values, about_values = value.train(
                config.value, data, value_key, run.hooks(f"{name}.value.{epoch}")
            )
            successors, about_search = find_successors(
                data, teacher.ensemble, values, config.stitching
            )
            data, about_stitches = stitch(
                data,
                successors,
                lambda s, s_next: actions_between(teacher.inverse_dynamics, s, s_next),
                lambda s, s_next, key=reward_key: reward_generator.rewards_between(
                    teacher.reward_generator, config.reward_sampling, s, s_next, key
                ),
                episode_limit=task.episode_limit,
                acceptance=config.stitching.acceptance,
            )
            figures["epochs"].append(about_values | about_search | about_stitches)
        # Without stitching nothing but imagination has changed the data, and it is not cut to T.
        if stitches:
            data = data.select(np.sort(np.argsort(-data.returns(), kind="stable")[:count]))
    for index, source in enumerate(("recorded", "imagined", "stitched")):
        figures[f"{source}_transitions"] = int((data.source == index).sum())
    if figures["epochs"]:
        figures |= {
            k: v for k, v in figures["epochs"][-1].items() if "share" in k or "trajectories" in k
        }
    return data, figures


def keep_best(
    config: Config, data: Trajectories, recorded: Trajectories, task: Task
) -> Trajectories:
    """The trajectories that students imitate (Algorithm 4, line 21); never none."""
    returns = data.returns()
    if config.rule == "none":
        return data
    if config.rule == "margin":
        kept = returns > returns.max() - config.margin
    else:
        _, least = best_episodes(recorded, config.share, task.episode_limit)
        kept = returns >= least
    if not kept.any():
        kept[returns.argmax()] = True
    return data.select(kept)


def _variants(config: Config) -> list[tuple[str, bool, bool]]:
    """(name, imagination on, stitching on) of the method and of what it is without a part."""
    imagines, stitches = config.imagination.enabled, config.stitching.enabled
    variants = [("tskd", imagines, stitches)]
    if config.evaluation.ablations and imagines and stitches:
        variants += [("tskd_no_stitching", True, False), ("tskd_no_imagination", False, True)]
    return variants


def _load(config: Config, task: Task, run: Run) -> Trajectories:
    source = config.dataset.path or config.dataset.name
    recorded = load.load_dataset(source)
    sizes = recorded.observations.shape[1], recorded.actions.shape[1]
    if sizes != (task.state_size, task.action_size):
        raise DatasetError(
            f"{source}: states of size {sizes[0]} and actions of size {sizes[1]}, but {task.name} "
            f"has {task.state_size} and {task.action_size}; choose the config of its environment"
        )

    def compute(_hooks):
        about = describe(recorded)
        if not source.startswith("d4rl:"):
            about["sha256"] = load.content_hash(load.resolve(source))
        # The result is the statistics: the data itself stays where it is.
        return np.int64(recorded.size), about

    known = run.stage("dataset", lambda: np.int64(0), compute)
    if int(known) != recorded.size or (
        "sha256" in run.figures("dataset")
        and run.figures("dataset")["sha256"] != load.content_hash(load.resolve(source))
    ):
        raise DatasetError(
            f"{source}: not the file that this run began with; restore it, or choose another "
            "--workdir"
        )
    return recorded


def _blend(
    name: str,
    config: Config,
    teacher: Teacher,
    recorded: Trajectories,
    imagined: Trajectories | None,
    task: Task,
    run: Run,
    stitches: bool,
) -> Trajectories:
    stage = f"stitching.{name}"
    return run.stage(
        stage,
        lambda: recorded,
        lambda _hooks: blend(
            config, teacher, recorded, imagined, task, run, stage, stitches=stitches
        ),
    )


def _distil(name: str, config: Config, data: Trajectories, task: Task, run: Run) -> list[Policy]:
    seeds = tuple(config.seeds)

    def compute(hooks):
        policies, figures = behavioural_cloning.train(
            f"student.{name}", config.student, data, task, seeds, hooks
        )
        about = {
            "transitions": data.size,
            "imagined": int((data.source == IMAGINED).sum()),
            "lowest_return": float(data.returns().min()),
        }
        return [(policy.weights, policy.biases) for policy in policies], figures | about

    layers = len(config.student.hidden) + 1
    one = ((0,) * layers, (0,) * layers)
    arrays = run.stage(f"student.{name}", lambda: [one] * len(seeds), compute)
    return [Policy(tuple(weights), tuple(biases), task.action_bound) for weights, biases in arrays]


def _evaluate(
    name: str, config: Config, policies: list[Policy], task: Task, run: Run
) -> np.ndarray:
    episodes = config.evaluation.episodes
    seeds = [seed for s in config.seeds for seed in episode_seeds(s, episodes)]

    def compute(hooks):
        def act(observations, _time):
            blocks = np.split(observations, len(policies))
            return np.concatenate(
                [policy(block) for policy, block in zip(policies, blocks, strict=True)]
            )

        returns = rollout(act, task, seeds, lambda t, total: hooks.on_progress(t, total, {}))
        scores = task.normalized_score(returns.reshape(len(policies), episodes))
        return returns.reshape(scores.shape), {"score": float(scores.mean())}

    return run.stage(f"evaluation.{name}", lambda: np.zeros(()), compute)


def _evaluate_teacher(config: Config, teacher: Teacher, task: Task, run: Run) -> np.ndarray:
    def compute(hooks):
        planner = Planner(
            teacher.trajectory_generator,
            config.sampling,
            teacher.inverse_dynamics,
            _key(config, "planner"),
        )
        seeds = episode_seeds(config.seed, config.evaluation.teacher_episodes)
        returns = rollout(planner, task, seeds, lambda t, total: hooks.on_progress(t, total, {}))
        return returns[None], {"score": float(task.normalized_score(returns.mean()))}

    return run.stage("evaluation.teacher", lambda: np.zeros(()), compute)


def _key(config: Config, name: str) -> jax.Array:
    """Randomness by name of its use, so that no part's depends on which others ran."""
    return jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)
