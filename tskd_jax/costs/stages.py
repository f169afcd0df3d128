"""Lists the stages of a config's methods without computing them."""

import sys
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from tskd_jax.config import Config
from tskd_jax.costs.fresh import fresh_baseline
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.methods import METHODS, Experiment, Outcome
from tskd_jax.methods.parts import aggregating, choosing, imagining, stitching, teachers
from tskd_jax.models import baseline, dynamics, inverse_dynamics, trajectory_transformer
from tskd_jax.models.discretizer import fit_discretizer
from tskd_jax.run.serialization import array_digest, fingerprint
from tskd_jax.run.stages import Call
from tskd_jax.teacher import (
    diffuser,
    few_steps,
    joint_diffuser,
    reward_generator,
    trajectory_generator,
    value_guide,
)
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.plan_paths import Table
from tskd_jax.training import seeds
from tskd_jax.training.training import Training


def stages_of(
    compared: Iterable[tuple[str, str, str, Config]], recorded: Trajectories, task: Task
) -> tuple[list[Call], Outcome | None]:
    """List the stages that a run of the given methods computes, in order, each once.

    The methods' own code runs, but its stages are only recorded, not computed.

    Args:
      compared: (name, title, method, its final config) of each, as from
        `cli.comparison.comparisons`.
      recorded: the dataset.
      task: the config's task.

    Returns:
      (the calls; a stand-in for the outcome of the last method).
    """
    run, outcome = _NothingIsComputed(recorded), None
    for name, _, method, varied in compared:
        exp = Experiment(name, varied, task, recorded, run)  # pyright: ignore[reportArgumentType]
        outcome = METHODS[method].train(exp, varied.own[method])
    return run.calls, outcome


def is_training(call: Call) -> bool:
    """Whether a stage trains a model; if so, `training_of` gives its training."""
    return call.function.__name__ == "train"


def training_of(call: Call) -> Training:
    """The training that a stage for which `is_training` holds would run."""
    return _as_training(_planned(call))


def _as_training(planned: Training | tuple) -> Training:
    return planned[0] if isinstance(planned, tuple) else planned


def _planned(call: Call) -> Any:
    """The result of the part's `training` function: a training, or a tuple that begins with one."""
    inputs = call.inputs
    if call.function is reward_generator.train:
        inputs = inputs[1:]  # the sampling settings do not affect the training
    if call.function is few_steps.train:
        return _planned_distillation(call)
    if call.function is trajectory_transformer.train:
        bins = fit_discretizer("uniform", call.config.joined(inputs[0]), call.config.bins)
        inputs = inputs[0], bins, *inputs[1:]
    part = sys.modules[call.function.__module__]
    return part.training(call.config, *inputs, *call.randomness().values())


def _planned_distillation(call: Call) -> tuple[Training, Diffuser]:
    """As `_planned`, for `few_steps`; a dummy table of the real size takes little memory."""
    sampling, ddr1, recorded = call.inputs
    count, seed_count = call.config.windows, len(call.seeds)
    if not sampling.temperature:  # each state has only one plan
        count = min(count, recorded.size)
    window = ddr1.config.horizon, ddr1.token_size
    steps = np.broadcast_to(np.float32(0), (seed_count, count, call.config.calls, *window))
    known = np.broadcast_to(False, (seed_count, count, *window))
    table = Table(steps, steps, np.zeros((seed_count, count), np.float32), known)
    rows = [np.arange(count)] * seed_count
    return few_steps.training(call.config, sampling, ddr1, table, rows, *call.randomness().values())


class _NothingIsComputed:
    """A stand-in for `Run` that records the requested stages instead of computing them.

    A stage's result has the form and size of the real one if a method or another stage reads it.
    Results differ between stages, so that later stages have different fingerprints, as in a run.
    """

    def __init__(self, recorded: Trajectories):
        self.calls: list[Call] = []
        self._recorded = recorded
        self._results: dict[str, Any] = {}

    def stage(self, name, function, config, *inputs, keys, seeds) -> Any:
        """Record a stage and return a stand-in for its result."""
        call = Call(name, function, config, inputs, keys, seeds)
        key = fingerprint((function, config, inputs, call.randomness()), _digest)
        if key not in self._results:
            self.calls.append(call)
            self._results[key] = self._stand_in(call, len(self.calls))
        return self._results[key]

    def report(self, line: str) -> None:
        """Print nothing: what methods report has not happened."""

    def _stand_in(self, call: Call, number: int) -> Any:
        if call.function is baseline.train:
            data, discount = call.inputs
            return fresh_baseline(call.config, data, discount, call.keys)
        if call.function in (trajectory_generator.train, reward_generator.train, few_steps.train):
            return _of_that_size(_planned(call)[1], call.keys, number)
        imagined = imagining.imagine, imagining.plan_in_simulator, aggregating.ask_teacher
        if call.function in (*imagined, stitching.stitching):
            # As many rows as were recorded, but different data, whatever a filter keeps of them.
            actions = np.full_like(self._recorded.actions, number)
            return [self._recorded.replace(actions=actions)] * len(call.seeds)
        if call.function is dynamics.train:
            model = dynamics.create(call.config, *call.inputs)
            return _of_its_form(model, call, number, (call.config.elites,))
        if call.function is inverse_dynamics.train:
            return _of_its_form(inverse_dynamics.create(call.config, *call.inputs), call, number)
        if call.function in (joint_diffuser.train, value_guide.train):
            return _of_its_form(_planned(call)[1], call, number)
        if call.function is imagining.accept:
            return call.inputs[0]
        if call.function is teachers.best_teacher:
            _, planners = call.inputs
            return planners[0]
        if call.function is choosing.best_share:
            return call.config[0].shares[0]
        if call.function is choosing.confirmed_share:
            return 0
        if call.function is choosing.best_data:
            return [len(call.inputs[0]) - 1] * len(call.seeds)
        return np.full(len(call.seeds), number, np.float32)


def _of_its_form(model: Any, call: Call, number: int, members: tuple[int, ...] = ()) -> Any:
    """The model of each seed, of `members` networks, whose parameters take no memory."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    many = len(call.seeds), *members
    params = jax.tree.map(
        lambda leaf: np.broadcast_to(np.float32(number), (*many, *leaf.shape)), shapes
    )
    return seeds.for_seeds(model.replace(params=None), len(call.seeds)).replace(params=params)


def _of_that_size(model: Diffuser, keys: jax.Array, number: int) -> Diffuser:
    """The model with parameters of the right shapes that take no memory, for any network size."""
    shapes = jax.eval_shape(lambda: diffuser.with_fresh_params(model, keys).params)
    filled = jax.tree.map(lambda leaf: np.broadcast_to(np.float32(number), leaf.shape), shapes)
    return model.replace(params=filled)


def _digest(array: Any) -> str:
    if isinstance(array, np.ndarray) and array.size and not any(array.strides):
        return f"{array.shape} times {array.flat[0]}"
    return array_digest(array)
