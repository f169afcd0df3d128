"""Behavioural cloning: π(s) fitted to actions by mean squared error (section 3)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.networks import MLP
from tskd_jax.student.policy import Policy
from tskd_jax.tasks import Task
from tskd_jax.training import Hooks, adam, fit, uniform_rows
from tskd_jax.types import Config


def train(
    name: str,
    config: Config,
    trajectories: Trajectories,
    task: Task,
    seeds: tuple[int, ...],
    hooks: Hooks,
) -> tuple[list[Policy], dict[str, float | None]]:
    """One student for each seed, all in one compiled program.

    Args:
      name: of the method, for messages.
      config: `config.student`.
      trajectories: what is imitated.
      task: action size and bound.
      seeds: a student depends on its own seed only.
      hooks: progress and checkpoints.

    Returns:
      (policies on raw states, in the order of the seeds; metrics).
    """
    network = MLP(tuple(config.hidden), task.action_size)
    states = trajectories.observations
    mean = states.mean(0) if config.normalize else np.zeros(states.shape[1], np.float32)
    deviation = states.std(0) if config.normalize else np.ones(states.shape[1], np.float32)
    # A dimension that is constant in training, however small its noise, must not explode later.
    deviation = np.where(deviation > 1e-3, deviation, 1.0).astype(np.float32)

    def init(key):
        return network.init(key, jnp.zeros((1, task.state_size)))

    def loss(params, _ema, batch, _key):
        s, a = batch
        return jnp.square(task.action_bound * jnp.tanh(network.apply(params, s)) - a).mean()

    last = {}

    def watch(done, steps, metrics):
        last.update(metrics)
        hooks.on_progress(done, steps, metrics)

    state = fit(
        name,
        init,
        loss,
        lambda data, key: uniform_rows(data, key, config.batch_size),
        ((states - mean) / deviation, trajectories.actions),
        adam(config.learning_rate, config.schedule, config.steps),
        steps=config.steps,
        key=jnp.stack([jax.random.key(seed) for seed in seeds]),
        hooks=replace(hooks, on_progress=watch),
    )
    params = jax.tree.map(np.asarray, state.params)
    policies = [
        fold(jax.tree.map(lambda leaf: leaf[i], params), mean, deviation, task.action_bound)  # noqa: B023
        for i in range(len(seeds))
    ]
    return policies, {"loss": last.get("loss")}


def fold(params, mean: np.ndarray, deviation: np.ndarray, action_bound: float) -> Policy:
    """A policy on raw states: the standardisation is folded into the first layer."""
    layers = [params["params"][f"Dense_{i}"] for i in range(len(params["params"]))]
    weights = [np.asarray(layer["kernel"], np.float32) for layer in layers]
    biases = [np.asarray(layer["bias"], np.float32) for layer in layers]
    first = weights[0].astype(np.float64) / deviation[:, None]
    biases[0] = (biases[0] - mean.astype(np.float64) @ first).astype(np.float32)
    weights[0] = first.astype(np.float32)
    return Policy(tuple(weights), tuple(biases), action_bound)
