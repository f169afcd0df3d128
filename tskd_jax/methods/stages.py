"""The stages that `method.tskd` strings together, each kept in the run once it is done."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from tskd_jax.data import load
from tskd_jax.data.checks import Demands, suspicions
from tskd_jax.data.selection import worth_imitating
from tskd_jax.data.trajectories import IMAGINED, Trajectories, describe
from tskd_jax.envs.tasks import Task, get_task
from tskd_jax.errors import DatasetError
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import episode_seeds, evaluate_students, record, rollout
from tskd_jax.machine import memory
from tskd_jax.machine.types import Config
from tskd_jax.models import baseline as expectation
from tskd_jax.models import cloning as behavioural_cloning
from tskd_jax.models import dynamics, inverse_dynamics
from tskd_jax.models.baseline import Expectation
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.policy import Policy
from tskd_jax.run.run import Run
from tskd_jax.teacher import diffuser, imagination, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.planner import Planner
from tskd_jax.training.seeds import figures_of, pipeline_seeds
from tskd_jax.training.training import Hooks

Model = TypeVar("Model")


@dataclass(frozen=True)
class Teacher:
    """Everything that is learned before stitching, of one seed."""

    inverse_dynamics: InverseDynamics
    ensemble: dynamics.DynamicsEnsemble
    trajectory_generator: Diffuser
    reward_generator: Diffuser


def load_recorded(config: Config, task: Task, run: Run) -> Trajectories:
    source = config.dataset.path or config.dataset.name
    warnings: list[str] = []
    recorded = load.load_dataset(
        source, Demands(config.dataset.drop_invalid, task.episode_limit, warnings.append)
    )
    sizes = recorded.observations.shape[1], recorded.actions.shape[1]
    if sizes != (task.state_size, task.action_size):
        raise DatasetError(
            f"{source}: states of size {sizes[0]} and actions of size {sizes[1]}, but {task.name} "
            f"has {task.state_size} and {task.action_size}; choose the config of its environment"
        )
    warnings += [f"{source}: {told}" for told in suspicions(recorded, task.action_bound)]
    about = describe(recorded) | {"warnings": warnings}
    if not source.startswith("d4rl:"):
        about["sha256"] = load.content_hash(load.resolve(source))
    known = run.manifest["stages"].get("dataset")
    if known and any(known.get(key) != about.get(key) for key in ("transitions", "sha256")):
        raise DatasetError(
            f"{source}: not the file that this run began with; restore it, or choose another "
            "--workdir"
        )
    if not known:
        for told in warnings:
            run.say(f"warning: {told}")
    # The result is the statistics: the data itself stays where it is.
    run.stage("dataset", lambda: np.int64(0), lambda _hooks: (np.int64(recorded.size), about))
    return recorded


def say_memory(config: Config, task: Task, run: Run) -> None:
    """Where the whole pipeline has several seeds: how many fit side by side, before it begins.

    What really fits is known when a training's program is compiled (`seeds.fit_seeds`).
    """
    seeds, (free, _) = len(pipeline_seeds(config)), memory.of_device()
    if seeds == 1:
        return
    for name, model in (
        ("trajectory_generator", trajectory_generator),
        ("reward_generator", reward_generator),
    ):
        size = model.token_size(config[name], task.state_size)
        each = diffuser.training_bytes(config[name], size)
        groups = f", at most {max(1, free // each)} at a time" if seeds * each > free else ""
        run.say(
            f"{name}: {seeds} seeds take at least {memory.readable(seeds * each)} of memory, "
            f"{memory.readable(free)} are free{groups}"
        )


def train_teachers(config: Config, recorded: Trajectories, task: Task, run: Run) -> list[Teacher]:
    """Inverse dynamics, the dynamics ensemble, DDR-I and DDR-II, on recorded transitions only.

    Like all that comes before the students, there is one for each of `pipeline_seeds(config)`.
    """
    parts = (
        train_inverse_dynamics(config, recorded, task, run),
        train_dynamics(config, recorded, run),
        train_trajectory_generator(config, recorded, run),
        train_reward_generator(config, recorded, run),
    )
    return [Teacher(*of_seed) for of_seed in zip(*parts, strict=True)]


def train_inverse_dynamics(
    config: Config, recorded: Trajectories, task: Task, run: Run
) -> list[InverseDynamics]:
    def fresh():
        return inverse_dynamics.create(config.inverse_dynamics, recorded, task)

    def train(hooks):
        keys = named_keys(config, "inverse")
        return inverse_dynamics.train_seeds(fresh(), config.inverse_dynamics, recorded, keys, hooks)

    return _train("inverse_dynamics", config, fresh, train, run)


def train_dynamics(
    config: Config, recorded: Trajectories, run: Run
) -> list[dynamics.DynamicsEnsemble]:
    def fresh():
        return dynamics.create(config.dynamics, recorded, config.dynamics.elites)

    def train(hooks):
        keys = named_keys(config, "dynamics")
        return dynamics.train_seeds(config.dynamics, recorded, keys, hooks)

    return _train("dynamics", config, fresh, train, run)


def train_expectation(config: Config, recorded: Trajectories, run: Run) -> Expectation | None:
    """What DDR-I is told as differences from; None where its config has it otherwise.

    It belongs to the dataset, as a normaliser does, and not to a seed.
    """
    expected = None
    if trajectory_generator.needs_expectation(config.trajectory_generator):
        discount = config.trajectory_generator.discount
        expected = run.stage(
            "expectation",
            lambda: expectation.create(config.expectation, recorded, discount),
            lambda hooks: expectation.train(config.expectation, recorded, discount, hooks),
        )
    run.end_of("expectation")
    return expected


def train_trajectory_generator(config: Config, recorded: Trajectories, run: Run) -> list[Diffuser]:
    expected = train_expectation(config, recorded, run)
    limit = get_task(config.environment.name).episode_limit

    def fresh():
        return trajectory_generator.create(config.trajectory_generator, recorded, expected)

    def train(hooks):
        keys = named_keys(config, "trajectory_generator")
        kept = worth_imitating(config.filter, recorded, limit)
        return trajectory_generator.train_seeds(fresh(), recorded, keys, hooks, expected, kept)

    return _train("trajectory_generator", config, fresh, train, run)


def train_reward_generator(config: Config, recorded: Trajectories, run: Run) -> list[Diffuser]:
    def fresh():
        return reward_generator.create(config.reward_generator, recorded)

    def train(hooks):
        keys = named_keys(config, "reward_generator")
        return reward_generator.train_seeds(fresh(), recorded, keys, hooks, config.reward_sampling)

    return _train("reward_generator", config, fresh, train, run)


def _train(
    name: str,
    config: Config,
    fresh: Callable[[], Model],
    train: Callable[[Hooks], list[tuple[Model, dict[str, Any]]]],
    run: Run,
) -> list[Model]:
    """A stage that trains a model for each seed of the pipeline."""
    seeds = pipeline_seeds(config)

    def compute(hooks):
        models, figures = zip(*train(hooks), strict=True)
        return list(models), figures_of(seeds, figures)

    models = run.stage(name, lambda: [fresh()] * len(seeds), compute)
    run.end_of(name)
    return models


def imagine(
    config: Config, teachers: Sequence[Teacher], recorded: Trajectories, task: Task, run: Run
) -> list[Trajectories]:
    """The n trajectories of every epoch (Algorithm 4), cut where they stop being credible.

    DDR-I does not change between epochs, so all are imagined at once. From states in the middle of
    an episode (`imagination.starts`) there are at most as many as there are such states.
    """
    seeds = pipeline_seeds(config)
    shortened = shorten(config, task)

    def compute(hooks):
        keys = named_keys(config, "imagination")
        count = config.imagination.trajectories * config.stitching.epochs
        drawn = [int(jax.random.randint(key, (), 0, 2**31 - 1)) for key in keys]

        def report(done, total):
            hooks.on_progress(done, total, {})

        if config.imagination.mode == "environment":
            planners = _planners(config, teachers)
            whole = [
                _plan_in_simulator(planner, task, seed, count, report)
                for planner, seed in zip(planners, drawn, strict=True)
            ]
        else:
            episodes = config.imagination.starts == "episodes"
            first = starting_states(config, recorded, task)
            count = count if episodes else min(count, len(first))
            chosen = [
                np.random.default_rng(seed).choice(len(first), count, replace=episodes)
                for seed in drawn
            ]
            whole = imagination.imagine_seeds(
                [teacher.trajectory_generator for teacher in teachers],
                config.sampling,
                shortened,
                [teacher.inverse_dynamics for teacher in teachers],
                first[np.stack(chosen)],
                keys,
                chunk=config.imagination.chunk,
                keep=hooks.keep,
                on_progress=report,
                on_compiled=hooks.on_compiled,
            )
        judged = [judge(*of_seed) for of_seed in zip(teachers, whole, strict=True)]
        believed, figures = zip(*judged, strict=True)
        return list(believed), figures_of(seeds, figures)

    def judge(teacher: Teacher, whole: Trajectories) -> tuple[Trajectories, dict[str, Any]]:
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
        return [recorded.select(np.arange(0))] * len(seeds)
    return run.stage("imagination", lambda: [recorded] * len(seeds), compute)


def shorten(config: Config, task: Task) -> Task:
    """The task, whose episodes end after `imagination.length` steps where that is not 0."""
    longest = config.imagination.length or task.episode_limit
    return replace(task, episode_limit=min(longest, task.episode_limit))


def starting_states(config: Config, recorded: Trajectories, task: Task) -> np.ndarray:
    """(N', m) the recorded states that imagination may begin with."""
    if config.imagination.starts == "episodes":
        return recorded.initial_observations
    if config.imagination.starts == "states":
        return recorded.observations
    kept = worth_imitating(config.filter, recorded, task.episode_limit)
    return recorded.select(kept).observations


def _plan_in_simulator(planner: Planner, task: Task, seed: int, count: int, report) -> Trajectories:
    """Algorithm 1 to the letter: states are observed, actions executed, rewards imagined."""
    episodes = record(planner, task, episode_seeds(seed, count), report)
    planned = np.stack(planner.rewards)
    step = np.arange(episodes.size) - np.repeat(episodes.starts, episodes.lengths)
    return episodes.replace(
        rewards=planned[step, episodes.episode_of],
        source=np.full_like(episodes.source, IMAGINED),
    )


def _planners(config: Config, teachers: Sequence[Teacher]) -> list[Planner]:
    # What is observed is exact, however blurred imagination says that its own states are.
    sampling = FrozenConfigDict(config.sampling.to_dict() | {"history_noise": 0.0})
    return [
        Planner(teacher.trajectory_generator, sampling, teacher.inverse_dynamics, key)
        for teacher, key in zip(teachers, named_keys(config, "planner"), strict=True)
    ]


def distil(
    name: str, config: Config, datasets: Sequence[Trajectories], task: Task, run: Run
) -> list[Policy]:
    """A student for each of `config.seeds`, from its own dataset or from the only one."""
    seeds = tuple(config.seeds)

    def compute(hooks):
        alike = all(data is datasets[0] for data in datasets)
        policies, figures = behavioural_cloning.train(
            f"student.{name}",
            config.student,
            datasets[0] if alike else datasets,
            task,
            seeds,
            hooks,
        )
        about = [
            {
                "transitions": data.size,
                "imagined": int((data.source == IMAGINED).sum()),
                "lowest_return": float(data.returns().min()),
            }
            for data in datasets
        ]
        figures |= figures_of(pipeline_seeds(config), about)
        return [(policy.weights, policy.biases) for policy in policies], figures

    layers = len(config.student.hidden) + 1
    one = ((0,) * layers, (0,) * layers)
    arrays = run.stage(f"student.{name}", lambda: [one] * len(seeds), compute)
    return [Policy(tuple(weights), tuple(biases), task.action_bound) for weights, biases in arrays]


def evaluate(name: str, config: Config, policies: list[Policy], task: Task, run: Run) -> np.ndarray:
    def compute(hooks):
        returns = evaluate_students(
            policies,
            task,
            config.seeds,
            config.evaluation.episodes,
            lambda t, total: hooks.on_progress(t, total, {}),
        )
        return returns, {"score": float(task.normalized_score(returns).mean())}

    return run.stage(f"evaluation.{name}", lambda: np.zeros(()), compute)


def evaluate_teachers(
    config: Config, teachers: Sequence[Teacher], task: Task, run: Run
) -> np.ndarray:
    def compute(hooks):
        def report(time, total):
            hooks.on_progress(time, total, {})

        episodes = config.evaluation.teacher_episodes
        planners = zip(pipeline_seeds(config), _planners(config, teachers), strict=True)
        returns = np.stack(
            [rollout(plan, task, episode_seeds(seed, episodes), report) for seed, plan in planners]
        )
        return returns, {"score": float(task.normalized_score(returns.mean()))}

    return run.stage("evaluation.teacher", lambda: np.zeros(()), compute)


def named_keys(config: Config, name: str) -> jax.Array:
    """(seeds,) randomness by name of its use, so that no part's depends on which others ran."""
    of_use = zlib.crc32(name.encode()) & 0x7FFFFFFF
    return jnp.stack(
        [jax.random.fold_in(jax.random.key(seed), of_use) for seed in pipeline_seeds(config)]
    )
