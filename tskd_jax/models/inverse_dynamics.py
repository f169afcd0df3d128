"""Inverse dynamics a = f(s, s') (section 4.5, Equation 7)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import WIDTHS, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.models import held_out
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Bounds
from tskd_jax.training import seeds
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
    """`config.inverse_dynamics`."""

    steps: int = steps_field(1_000_000, "Appendix B")
    batch_size: int = batch_size_field(32, "Appendix B")
    learning_rate: float = learning_rate_field(2e-4, "Appendix B")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((512, 512), WIDTHS, "hidden layers (Appendix B)")


@struct.dataclass
class InverseDynamics:
    """f: an MLP on s and its change, with a final tanh that is scaled to the action bounds.

    Attributes:
      params: of the network.
      normalizer: of states.
      hidden: widths of the hidden layers.
      bounds: of the actions.
    """

    params: Leaf
    normalizer: Normalizer
    hidden: tuple[int, ...] = struct.field(pytree_node=False)
    bounds: Bounds = struct.field(pytree_node=False)

    @property
    def action_size(self) -> int:
        return len(self.bounds.low)

    @property
    def network(self) -> MLP:
        return MLP(self.hidden, self.action_size)

    def init(self, key: jax.Array) -> Leaf:
        """Fresh parameters."""
        return self.network.init(key, jnp.zeros((1, 2 * self.normalizer.raw.shape[1])))

    def __call__(
        self, states: Float[Array, "batch state"], next_states: Float[Array, "batch state"]
    ) -> Float[Array, "batch action"]:
        """The actions that lead from states to next states, raw units."""
        output = self.network.apply(
            self.params, pair_features(self.normalizer, states, next_states)
        )
        return self.bounds.stretch(jnp.tanh(output))


def pair_features(
    normalizer: Normalizer,
    states: Float[Array, "batch state"],
    next_states: Float[Array, "batch state"],
) -> Float[Array, "batch features"]:
    """Network inputs for a transition from raw s to raw s': normalised s, and its scaled change.

    The change says most about the action, but is small compared with the state. As an input of its
    own, the network need not compute it as a difference of two large numbers.
    """
    s, s_next = normalizer.normalize(states), normalizer.normalize(next_states)
    return jnp.concatenate([s, (s_next - s) * 10.0], -1)


def create(config: Config, trajectories: Trajectories, task: Task) -> InverseDynamics:
    """The model of one seed for a dataset, without parameters."""
    return InverseDynamics(
        params=None,
        normalizer=fit_normalizer("gaussian", trajectories.observations),
        hidden=config.hidden,
        bounds=task.bounds,
    )


def training(
    config: Config, trajectories: Trajectories, task: Task, keys: jax.Array
) -> tuple[Training, list[np.ndarray]]:
    """The training of f on recorded transitions by mean squared error (Equation 7).

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      task: gives the action bounds.
      keys: (S,).

    Returns:
      (the training; the held-out transitions of each seed).
    """
    model = create(config, trajectories, task)
    columns = (trajectories.observations, trajectories.next_observations, trajectories.actions)

    def loss(params, _ema, batch, _key):
        states, next_states, actions = batch
        return jnp.square(model.replace(params=params)(states, next_states) - actions).mean()

    plan, splits = held_out.training(
        *("inverse_dynamics", config, trajectories, columns, keys),
        init=model.init,
        loss=loss,
    )
    return plan, [rows for _, rows in splits]


def train(
    config: Config,
    trajectories: Trajectories,
    task: Task,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[InverseDynamics, Sequence[dict[str, float]]]:
    """Fit f and measure its error on held-out transitions.

    Returns:
      (f with the seeds as leading axis of every leaf; metrics of each seed).
    """
    plan, tested = training(config, trajectories, task, keys)
    fitted = fit(plan, callbacks)
    model = create(config, trajectories, task)
    models = seeds.for_seeds(model, len(keys)).replace(params=fitted.params)

    def measure(trained: InverseDynamics, rows: np.ndarray) -> dict[str, float]:
        states, next_states, actions = (
            getattr(trajectories, name)[rows]
            for name in ("observations", "next_observations", "actions")
        )
        errors = actions_between(trained, states, next_states) - actions
        return {
            "held_out_mse": float(np.square(errors).mean()),
            "held_out_r2": held_out.explained(errors, actions),
        }

    return models, [measure(seeds.of_seed(models, i), rows) for i, rows in enumerate(tested)]


_apply = jax.jit(lambda model, states, next_states: model(states, next_states))


def actions_between(
    model: InverseDynamics, states: np.ndarray, next_states: np.ndarray
) -> np.ndarray:
    """f(s, s') of one seed for any number of pairs: (N, m), (N, m) -> (N, n), on the host."""
    return in_batches(lambda s, s_next: _apply(model, s, s_next), states, next_states)
