"""The stages that `method.tskd` strings together, each kept in the run once it is done."""

import zlib
from dataclasses import dataclass

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from tskd_jax.data import load
from tskd_jax.data.demands import Demands, suspicions
from tskd_jax.data.trajectories import (
    IMAGINED,
    Trajectories,
    describe,
)
from tskd_jax.errors import DatasetError
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import episode_seeds, evaluate_students, record, rollout
from tskd_jax.run import Run
from tskd_jax.stitching import dynamics
from tskd_jax.student import behavioural_cloning
from tskd_jax.student.policy import Policy
from tskd_jax.tasks import Task
from tskd_jax.teacher import (
    imagination,
    inverse_dynamics,
    reward_generator,
    trajectory_generator,
)
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.inverse_dynamics import InverseDynamics
from tskd_jax.teacher.planner import Planner
from tskd_jax.types import Config


@dataclass(frozen=True)
class Teacher:
    """Everything that is learned before stitching."""

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


def train_teacher(config: Config, recorded: Trajectories, task: Task, run: Run) -> Teacher:
    """Inverse dynamics, the dynamics ensemble, DDR-I and DDR-II, on recorded transitions only."""
    return Teacher(
        train_inverse_dynamics(config, recorded, task, run),
        train_dynamics(config, recorded, run),
        train_trajectory_generator(config, recorded, run),
        train_reward_generator(config, recorded, run),
    )


def train_inverse_dynamics(
    config: Config, recorded: Trajectories, task: Task, run: Run
) -> InverseDynamics:
    def fresh():
        return inverse_dynamics.create(config.inverse_dynamics, recorded, task)

    def compute(hooks):
        key = named_key(config, "inverse")
        return inverse_dynamics.train(fresh(), config.inverse_dynamics, recorded, key, hooks)

    model = run.stage("inverse_dynamics", fresh, compute)
    run.end_of("inverse_dynamics")
    return model


def train_dynamics(config: Config, recorded: Trajectories, run: Run) -> dynamics.DynamicsEnsemble:
    def fresh():
        return dynamics.create(config.dynamics, recorded, config.dynamics.elites)

    def compute(hooks):
        return dynamics.train(config.dynamics, recorded, named_key(config, "dynamics"), hooks)

    model = run.stage("dynamics", fresh, compute)
    run.end_of("dynamics")
    return model


def train_trajectory_generator(config: Config, recorded: Trajectories, run: Run) -> Diffuser:
    def fresh():
        return trajectory_generator.create(config.trajectory_generator, recorded)

    def compute(hooks):
        key = named_key(config, "trajectory_generator")
        return trajectory_generator.train(fresh(), recorded, key, hooks)

    model = run.stage("trajectory_generator", fresh, compute)
    run.end_of("trajectory_generator")
    return model


def train_reward_generator(config: Config, recorded: Trajectories, run: Run) -> Diffuser:
    def fresh():
        return reward_generator.create(config.reward_generator, recorded)

    def compute(hooks):
        key = named_key(config, "reward_generator")
        return reward_generator.train(fresh(), recorded, key, hooks, config.reward_sampling)

    model = run.stage("reward_generator", fresh, compute)
    run.end_of("reward_generator")
    return model


def imagine(
    config: Config, teacher: Teacher, recorded: Trajectories, task: Task, run: Run
) -> Trajectories:
    """The n trajectories of every epoch (Algorithm 4), cut where they stop being credible.

    DDR-I does not change between epochs, so all are imagined at once.
    """

    def compute(hooks):
        key = named_key(config, "imagination")
        count = config.imagination.trajectories * config.stitching.epochs
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))

        def report(done, total):
            hooks.on_progress(done, total, {})

        if config.imagination.mode == "environment":
            whole = _plan_in_simulator(config, teacher, task, seed, count, report)
        else:
            first = recorded.initial_observations
            whole = imagination.imagine(
                teacher.trajectory_generator,
                config.sampling,
                task,
                teacher.inverse_dynamics,
                first[np.random.default_rng(seed).integers(len(first), size=count)],
                key,
                chunk=config.imagination.chunk,
                keep=hooks.keep,
                on_progress=report,
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


def _plan_in_simulator(
    config: Config, teacher: Teacher, task: Task, seed: int, count: int, report
) -> Trajectories:
    """Algorithm 1 to the letter: states are observed, actions executed, rewards imagined."""
    planner = _planner(config, teacher)
    episodes = record(planner, task, episode_seeds(seed, count), report)
    planned = np.stack(planner.rewards)
    step = np.arange(episodes.size) - np.repeat(episodes.starts, episodes.lengths)
    return episodes.replace(
        rewards=planned[step, episodes.episode_of],
        source=np.full_like(episodes.source, IMAGINED),
    )


def _planner(config: Config, teacher: Teacher) -> Planner:
    # What is observed is exact, however blurred imagination says that its own states are.
    sampling = FrozenConfigDict(config.sampling.to_dict() | {"history_noise": 0.0})
    return Planner(
        teacher.trajectory_generator,
        sampling,
        teacher.inverse_dynamics,
        named_key(config, "planner"),
    )


def distil(name: str, config: Config, data: Trajectories, task: Task, run: Run) -> list[Policy]:
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


def evaluate_teacher(config: Config, teacher: Teacher, task: Task, run: Run) -> np.ndarray:
    def compute(hooks):
        seeds = episode_seeds(config.seed, config.evaluation.teacher_episodes)
        returns = rollout(
            _planner(config, teacher), task, seeds, lambda t, total: hooks.on_progress(t, total, {})
        )
        return returns[None], {"score": float(task.normalized_score(returns.mean()))}

    return run.stage("evaluation.teacher", lambda: np.zeros(()), compute)


def named_key(config: Config, name: str) -> jax.Array:
    """Randomness by name of its use, so that no part's depends on which others ran."""
    return jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()) & 0x7FFFFFFF)
