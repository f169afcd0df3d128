"""Models as large as a config's, and the stages of its methods, of which nothing is trained."""

import itertools
import sys
from typing import Any

import jax
import numpy as np

from tskd_jax.cli.comparison import comparisons
from tskd_jax.config import Config
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.methods import METHODS, Experiment, Outcome
from tskd_jax.methods.parts import choosing, imagining, stitching
from tskd_jax.models import baseline, decision_transformer, inverse_dynamics
from tskd_jax.models.baseline import Baseline
from tskd_jax.models.cloning import input_scale
from tskd_jax.models.decision_transformer import DecisionTransformer
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.policy import Bounds, Policy
from tskd_jax.run.serialization import array_digest, fingerprint
from tskd_jax.run.stages import Call
from tskd_jax.teacher import diffuser, few_steps, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.plan_paths import Table
from tskd_jax.training import seeds
from tskd_jax.training.training import Training


def some_episodes() -> Trajectories:
    """A twentieth of the embedded data: what is not trained takes scales and starts from it."""
    return load_dataset("hopper-sac-replay").select(np.arange(0, 600, 20))


def random_student(sizes: tuple[int, ...], bounds: Bounds) -> Policy:
    """A student of random weights: time depends on them only by how many activations are 0.

    Args:
      sizes: of the observations, of each hidden layer, of the actions.
      bounds: of the actions.
    """
    rng = np.random.default_rng(0)
    return Policy(
        tuple(
            (rng.normal(size=pair) * np.sqrt(2 / pair[0])).astype(np.float32)
            for pair in itertools.pairwise(sizes)
        ),
        tuple(np.zeros(size, np.float32) for size in sizes[1:]),
        bounds,
    )


def fresh_baseline(
    config: baseline.Config, recorded: Trajectories, discount: float, keys: jax.Array
) -> Baseline:
    """The baseline with fresh parameters and the seeds, one for each key, as leading axis."""
    model = baseline.create(config, recorded, discount)
    both = jax.vmap(lambda key: jax.vmap(model.init)(jax.random.split(key, 2)))(keys)
    return seeds.for_seeds(model, len(keys)).replace(params=jax.device_get(both))


def fresh_inverse_dynamics(
    config: Config, recorded: Trajectories, task: Task, keys: jax.Array
) -> InverseDynamics:
    """f with fresh parameters and the seeds, one for each key, as leading axis."""
    model = inverse_dynamics.create(config.inverse_dynamics, recorded, task)
    params = jax.device_get(jax.vmap(model.init)(keys))
    return seeds.for_seeds(model, len(keys)).replace(params=params)


def needed_baseline(config: Config, recorded: Trajectories, keys: jax.Array) -> Baseline | None:
    """The baseline that DDR-I is made of, with fresh parameters, where it is made of one."""
    generator = config.trajectory_generator
    if not trajectory_generator.needs_baseline(generator):
        return None
    return fresh_baseline(config.baseline, recorded, generator.discount, keys)


def fresh_trajectory_generator(config: Config, recorded: Trajectories, keys: jax.Array) -> Diffuser:
    """DDR-I with fresh parameters and the seeds, one for each key, as leading axis."""
    generator, expected = config.trajectory_generator, needed_baseline(config, recorded, keys)
    labels = trajectory_generator.conditions(generator, recorded, expected, len(keys))
    model = trajectory_generator.create(generator, recorded, expected, labels)
    return diffuser.with_fresh_params(model, keys)


def fresh_decision_transformer(
    config: Config, recorded: Trajectories, task: Task, key: jax.Array
) -> DecisionTransformer:
    """A Decision Transformer with fresh parameters, of one seed."""
    section = config.own["decision_transformer"]
    model = decision_transformer.training(section, recorded, task, (0,))
    mean, deviation = input_scale(recorded, True)
    return DecisionTransformer(
        params=jax.device_get(model.init(key)),
        mean=mean,
        deviation=deviation,
        target=np.float32(decision_transformer.target_return(section, recorded)),
        config=section,
        bounds=task.bounds,
        times=task.episode_limit,
    )


def fresh_reward_generator(config: Config, recorded: Trajectories, keys: jax.Array) -> Diffuser:
    """DDR-II with fresh parameters and the seeds, one for each key, as leading axis."""
    section = config.reward_generator
    labels = reward_generator.conditions(section, recorded, len(keys))
    return diffuser.with_fresh_params(reward_generator.create(section, recorded, labels), keys)


def stages_of(
    config: Config, recorded: Trajectories, task: Task
) -> tuple[list[Call], Outcome | None]:
    """The stages that a run of that config computes, in order and each once.

    The methods themselves say what they need: they run with stages that are noted and not done.

    Args:
      config: final.
      recorded: the dataset.
      task: the config's.

    Returns:
      (the calls; what stands in for the outcome of the last method).
    """
    run, outcome = _NothingIsComputed(recorded), None
    for name, _, method, varied in comparisons(config):
        exp = Experiment(name, varied, task, recorded, run)  # pyright: ignore[reportArgumentType]
        outcome = METHODS[method].train(exp, varied.own[method])
    return run.calls, outcome


def is_training(call: Call) -> bool:
    """Whether a stage trains a part, whose training `training_of` gives."""
    return call.function.__name__ == "train"


def training_of(call: Call) -> Training:
    """What such a stage would fit."""
    return _as_training(_planned(call))


def _as_training(planned: Training | tuple) -> Training:
    return planned[0] if isinstance(planned, tuple) else planned


def _planned(call: Call) -> Any:
    """What the part's `training` gives: a training, and perhaps more."""
    inputs = call.inputs
    if call.function is reward_generator.train:
        inputs = inputs[1:]  # how it is sampled is no part of how it is trained
    if call.function is few_steps.train:
        return _planned_distillation(call)
    part = sys.modules[call.function.__module__]
    return part.training(call.config, *inputs, *call.randomness().values())


def _planned_distillation(call: Call) -> tuple[Training, Diffuser]:
    """Of `few_steps`, on a table of nothing, as large as the real one where memory is not taken."""
    sampling, ddr1, recorded = call.inputs
    count, seed_count = min(call.config.windows, recorded.size), len(call.seeds)
    window = ddr1.config.horizon, ddr1.token_size
    steps = np.broadcast_to(np.float32(0), (seed_count, count, call.config.calls, *window))
    known = np.broadcast_to(False, (seed_count, count, *window))
    table = Table(steps, steps, np.zeros((seed_count, count), np.float32), known)
    rows = [np.arange(count)] * seed_count
    return few_steps.training(call.config, sampling, ddr1, table, rows, *call.randomness().values())


class _NothingIsComputed:
    """A `Run` for methods: it notes the stages that it is asked for.

    A result is of the form and size of the real one where a method or another stage looks into it,
    and different for each stage: what is made of it is told apart as in a run, by fingerprint.
    """

    def __init__(self, recorded: Trajectories):
        self.calls: list[Call] = []
        self._recorded = recorded
        self._results: dict[str, Any] = {}

    def stage(self, name, function, config, *inputs, keys, seeds) -> Any:
        """What stands in for the result of a stage."""
        call = Call(name, function, config, inputs, keys, seeds)
        key = fingerprint((function, config, inputs, call.randomness()), _digest)
        if key not in self._results:
            self.calls.append(call)
            self._results[key] = self._stand_in(call, len(self.calls))
        return self._results[key]

    def report(self, line: str) -> None:
        """Nothing of what methods report has happened."""

    def _stand_in(self, call: Call, number: int) -> Any:
        if call.function is baseline.train:
            data, discount = call.inputs
            return fresh_baseline(call.config, data, discount, call.keys)
        if call.function in (trajectory_generator.train, reward_generator.train, few_steps.train):
            return _of_that_size(_planned(call)[1], call.keys, number)
        if call.function in (imagining.imagine, imagining.plan_in_simulator, stitching.stitching):
            # As many rows as were recorded, and another dataset, whatever a filter keeps of it.
            actions = np.full_like(self._recorded.actions, number)
            return [self._recorded.replace(actions=actions)] * len(call.seeds)
        if call.function is imagining.accept:
            return call.inputs[0]
        if call.function is choosing.best_share:
            return call.config[0].shares[0]
        if call.function is choosing.confirmed_share:
            return 0
        if call.function is choosing.best_data:
            return [len(call.inputs[0]) - 1] * len(call.seeds)
        return np.float32(number)


def _of_that_size(model: Diffuser, keys: jax.Array, number: int) -> Diffuser:
    """With parameters that take no memory, however large the network is."""
    shapes = jax.eval_shape(lambda: diffuser.with_fresh_params(model, keys).params)
    filled = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(number), leaf.shape), shapes)
    return model.replace(params=filled)


def _digest(array: Any) -> str:
    if isinstance(array, np.ndarray) and array.size and not any(array.strides):
        return f"{array.shape} times {array.flat[0]}"
    return array_digest(array)
