"""Behavioural cloning: π(s) fitted to actions by mean squared error (section 3)."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine.types import Config
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Policy
from tskd_jax.training.seeds import fit_seeds, pad_rows
from tskd_jax.training.training import Hooks, adam, uniform_rows


def train(
    name: str,
    config: Config,
    trajectories: Trajectories | Sequence[Trajectories],
    task: Task,
    seeds: tuple[int, ...],
    hooks: Hooks,
) -> tuple[list[Policy], dict[str, float | None]]:
    """One student for each seed, all in one compiled program.

    Args:
      name: of the method, for messages.
      config: `config.student`.
      trajectories: what is imitated, by all or one for each seed.
      task: action size and bound.
      seeds: a student depends on its own seed only.
      hooks: progress and checkpoints.

    Returns:
      (policies on raw states, in the order of the seeds; metrics).
    """
    network = MLP(tuple(config.hidden), task.action_size)
    shared = isinstance(trajectories, Trajectories)
    datasets = [trajectories] if shared else trajectories
    scales = [_scale(data.observations, config.normalize) for data in datasets]
    columns = [
        ((data.observations - mean) / deviation, data.actions)
        for data, (mean, deviation) in zip(datasets, scales, strict=True)
    ]
    if shared:
        scales *= len(seeds)

    def init(key):
        return network.init(key, jnp.zeros((1, task.state_size)))

    def loss(params, _ema, batch, _key):
        s, a = batch
        return jnp.square(task.action_bound * jnp.tanh(network.apply(params, s)) - a).mean()

    last = {}

    def watch(done, steps, metrics):
        last.update(metrics)
        hooks.on_progress(done, steps, metrics)

    def draw(data, key):
        columns, count = data
        return uniform_rows(columns, key, config.batch_size, count)

    fitted = fit_seeds(
        name,
        init,
        loss,
        draw,
        (columns[0], len(columns[0][0])) if shared else pad_rows(columns),
        adam(config.learning_rate, config.schedule, config.steps),
        steps=config.steps,
        key=jnp.stack([jax.random.key(seed) for seed in seeds]),
        data_axes=None if shared else 0,
        hooks=replace(hooks, on_progress=watch),
    )
    policies = [
        fold(of.params, *scale, task.action_bound) for of, scale in zip(fitted, scales, strict=True)
    ]
    return policies, {"loss": last.get("loss")}


def _scale(states: np.ndarray, normalize: bool) -> tuple[np.ndarray, np.ndarray]:
    """(mean, deviation) by which the network's inputs are standardised."""
    if not normalize:
        size = states.shape[1]
        return np.zeros(size, np.float32), np.ones(size, np.float32)
    deviation = states.std(0)
    # A dimension that is constant in training, however small its noise, must not explode later.
    return states.mean(0), np.where(deviation > 1e-3, deviation, 1.0).astype(np.float32)


def fold(params, mean: np.ndarray, deviation: np.ndarray, action_bound: float) -> Policy:
    """A policy on raw states: the standardisation is folded into the first layer."""
    layers = [params["params"][f"Dense_{i}"] for i in range(len(params["params"]))]
    weights = [np.asarray(layer["kernel"], np.float32) for layer in layers]
    biases = [np.asarray(layer["bias"], np.float32) for layer in layers]
    first = weights[0].astype(np.float64) / deviation[:, None]
    biases[0] = (biases[0] - mean.astype(np.float64) @ first).astype(np.float32)
    weights[0] = first.astype(np.float32)
    return Policy(tuple(weights), tuple(biases), action_bound)
