"""State values V(s) of the behaviour in the data (section 5.2, Equation 10)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import POSITIVE_SHARE, PROBABILITY, WIDTHS, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.mlp import MLP
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Ema,
    Training,
    TrainingConfig,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.value`."""

    steps: int = steps_field(1_000_000, "Appendix B; steps as MBTS")
    batch_size: int = batch_size_field(256, "Appendix B; steps as MBTS")
    learning_rate: float = learning_rate_field(3e-4, "Appendix B; steps as MBTS")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((256, 256), WIDTHS, "hidden layers (Appendix B)")
    discount: float = field(0.99, PROBABILITY, "γ")
    target_average: float = field(
        0.005, POSITIVE_SHARE, "share of the new weights in the target net"
    )


@struct.dataclass
class Value:
    """V: the minimum of two nets.

    Attributes:
      params: with the two nets as leading axis.
      states: normaliser of s.
      scale: () factor of the nets' outputs: the standard deviation of discounted returns.
      hidden: widths of the hidden layers.
    """

    params: Leaf
    states: Normalizer
    scale: Leaf
    hidden: tuple[int, ...] = struct.field(pytree_node=False)

    def init(self, key: jax.Array) -> Leaf:
        """Fresh parameters of one net."""
        return MLP(self.hidden, 1).init(key, jnp.zeros((1, self.states.raw.shape[1])))

    def one(self, params: Leaf, states: Float[Array, "batch state"]) -> Float[Array, " batch"]:
        """V(s) by one net, in units of `scale`."""
        return jnp.asarray(MLP(self.hidden, 1).apply(params, self.states.normalize(states)))[:, 0]

    def __call__(self, states: Float[Array, "batch state"]) -> Float[Array, " batch"]:
        """V(s), raw units of reward."""
        return self.scale * jax.vmap(self.one, (0, None))(self.params, states).min(0)


def create(config: Config, trajectories: Trajectories) -> Value:
    """V of one seed for its dataset, without parameters."""
    returns = trajectories.returns_to_go(config.discount)
    return Value(
        params=None,
        states=fit_normalizer("gaussian", trajectories.observations),
        scale=np.float32(returns.std() or 1.0),
        hidden=config.hidden,
    )


def training(config: Config, datasets: Sequence[Trajectories], keys: jax.Array) -> Training:
    """The training of both nets of all seeds by TD(0) (Equation 10).

    A truncation is not a failure: V bootstraps through it.

    Args:
      config: of this part.
      datasets: S datasets, one for each seed.
      keys: (S,).
    """
    models = [create(config, data) for data in datasets]
    names = ("observations", "rewards", "next_observations", "terminals")
    columns = [tuple(getattr(data, name) for name in names) for data in datasets]

    # Normaliser and scale differ between seeds, so they are part of the data.
    def draw(data, key):
        columns, count, model = data
        return uniform_rows(columns, key, config.batch_size, count), model

    def loss(params, target, batch, _key):
        (states, rewards, next_states, terminals), model = batch
        following = jnp.where(terminals, 0.0, model.one(target, next_states))
        goal = jax.lax.stop_gradient(rewards / model.scale + config.discount * following)
        return jnp.square(goal - model.one(params, states)).mean()

    return Training(
        name="value",
        init=models[0].init,
        loss=loss,
        draw=draw,
        data=(*seeds.pad_rows(columns), seeds.stack_seeds(models)),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jax.vmap(lambda key: jax.random.split(key, 2))(keys),
        data_axes=0,
        ema=Ema(decay=1 - config.target_average),
    )


def train(
    config: Config,
    datasets: Sequence[Trajectories],
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[Value, list[dict[str, float]]]:
    """Fit V to each seed's data and compare it with the returns of that data.

    Returns:
      (V with the seeds as leading axis of every leaf, parameters (S, 2, …); metrics of each seed).
    """
    fitted = fit(training(config, datasets, keys), callbacks)
    models = seeds.stack_seeds([create(config, data) for data in datasets])
    models = models.replace(params=fitted.params)

    def measure(model: Value, data: Trajectories) -> dict[str, float]:
        estimates = values(model, data.observations)
        returns = data.returns_to_go(config.discount)
        return {
            "mean": float(estimates.mean()),
            "correlation_with_returns": _correlation(estimates, returns),
        }

    return models, [measure(seeds.of_seed(models, i), data) for i, data in enumerate(datasets)]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / max(np.sqrt((x**2).sum() * (y**2).sum()), 1e-12))


_apply = jax.jit(lambda model, states: model(states))


def values(model: Value, states: np.ndarray) -> np.ndarray:
    """V of one seed for any number of states: (N, m) -> (N,), on the host."""
    return in_batches(lambda s: _apply(model, s), states)
