"""Behavioural cloning: fits π(s) to actions by mean squared error (section 3)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.normalizer import moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import ANY, WIDTHS, field
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Bounds, Policy
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Training,
    TrainingConfig,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.student`."""

    steps: int = steps_field(100_000, "as MBTS; the paper does not say")
    batch_size: int = batch_size_field(256, "as MBTS; the paper does not say")
    learning_rate: float = learning_rate_field(1e-3, "as MBTS; the paper does not say")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((256, 256), WIDTHS, "hidden layers (Appendix B)")
    normalize: bool = field(True, ANY, "standardise states; folded into the first layer on export")


def training(
    config: Config,
    datasets: Sequence[Trajectories],
    task: Task,
    student_seeds: tuple[int, ...],
    name: str = "student",
) -> Training:
    """The training of one student for each of `student_seeds`; each depends on its own seed only.

    Args:
      config: of this part.
      datasets: the data to imitate: one dataset for all students, or one for each.
      task: gives the sizes of states and actions and the action bounds.
      student_seeds: S.
      name: for messages.
    """
    if len(datasets) not in (1, len(student_seeds)):
        raise ValueError(f"{len(datasets)} datasets for {len(student_seeds)} students")
    network = MLP(config.hidden, task.action_size)
    columns = []
    for data in datasets:
        mean, deviation = input_scale(data, config.normalize)
        columns.append(((data.observations - mean) / deviation, data.actions))
    data, axes = seeds.pad_rows(columns), 0
    if len(datasets) == 1:
        data, axes = seeds.of_seed(data, 0), None

    def init(key):
        return network.init(key, jnp.zeros((1, task.state_size)))

    def loss(params, _ema, batch, _key):
        states, actions = batch
        output = task.bounds.stretch(jnp.tanh(network.apply(params, states)))
        return jnp.square(output - actions).mean()

    def draw(data, key):
        columns, count = data
        return uniform_rows(columns, key, config.batch_size, count)

    return Training(
        name=name,
        init=init,
        loss=loss,
        draw=draw,
        data=data,
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jnp.stack([jax.random.key(seed) for seed in student_seeds]),
        data_axes=axes,
    )


def train(
    config: Config,
    datasets: Sequence[Trajectories],
    task: Task,
    student_seeds: tuple[int, ...],
    *,
    callbacks: TrainingCallbacks | None = None,
    name: str = "student",
) -> tuple[list[Policy], list[dict[str, float | None]]]:
    """Train one student for each of `student_seeds`; arguments as for `training`.

    Returns:
      (policies on raw states, in the order of the seeds; one dict with the last chunk's loss, the
      mean over students, or None if an earlier process had already finished the training).
    """
    fitted = fit(training(config, datasets, task, student_seeds, name), callbacks)
    scales = [input_scale(data, config.normalize) for data in datasets]
    policies = [
        fold(seeds.of_seed(fitted.params, i), *scales[i % len(scales)], task.bounds)
        for i in range(len(student_seeds))
    ]
    return policies, [{"loss": fitted.metrics.get("loss")}]


def input_scale(trajectories: Trajectories, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    """(mean, deviation), (m,) each, by which inputs are standardised; 0 and 1 if they are not."""
    states = trajectories.observations
    if not normalize:
        size = states.shape[1]
        return np.zeros(size, np.float32), np.ones(size, np.float32)
    mean, deviation = moments(states)
    # A dimension that is (nearly) constant in training must not explode later.
    deviation = np.where(deviation > 1e-3, deviation, 1.0)
    return mean.astype(np.float32), deviation.astype(np.float32)


def fold(params, mean: np.ndarray, deviation: np.ndarray, bounds: Bounds) -> Policy:
    """A policy on raw states: folds the standardisation into the first layer."""
    layers = [params["params"][f"Dense_{i}"] for i in range(len(params["params"]))]
    weights = [np.asarray(layer["kernel"], np.float32) for layer in layers]
    biases = [np.asarray(layer["bias"], np.float32) for layer in layers]
    first = weights[0].astype(np.float64) / deviation[:, None]
    biases[0] = (biases[0] - mean.astype(np.float64) @ first).astype(np.float32)
    weights[0] = first.astype(np.float32)
    return Policy(tuple(weights), tuple(biases), bounds)
