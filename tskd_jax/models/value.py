"""State values V(s) of the data's own behaviour (section 5.2, Equation 10)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Config, Leaf
from tskd_jax.nn.mlp import MLP
from tskd_jax.training.seeds import fit_seeds, pad_rows
from tskd_jax.training.training import Ema, Hooks, adam, uniform_rows


@struct.dataclass
class Value:
    """V = the minimum of two nets.

    Attributes:
      params: the two as leading axis.
      states: normaliser of s.
      scale: () what the nets' outputs are multiplied by: the spread of discounted returns.
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
        """One net's value in units of `scale`."""
        return jnp.asarray(MLP(self.hidden, 1).apply(params, self.states.normalize(states)))[:, 0]

    def __call__(self, states: Float[Array, "batch state"]) -> Float[Array, " batch"]:
        """V(s), raw units of reward."""
        return self.scale * jax.vmap(self.one, (0, None))(self.params, states).min(0)


def train(
    config: Config, trajectories: Trajectories, key: jax.Array, hooks: Hooks
) -> tuple[Value, dict[str, float]]:
    """TD(0) on those trajectories. A truncation is not a failure: V bootstraps through it."""
    return train_seeds(config, [trajectories], key[None], hooks)[0]


def train_seeds(
    config: Config, datasets: Sequence[Trajectories], keys: jax.Array, hooks: Hooks
) -> list[tuple[Value, dict[str, float]]]:
    """As `train` for each of the keys (seeds,) on data of its own, in one program."""
    returns = [data.returns_to_go(config.discount) for data in datasets]
    models = [
        Value(
            params=None,
            states=fit_normalizer("gaussian", data.observations),
            scale=np.float32(of_data.std() or 1.0),
            hidden=tuple(config.hidden),
        )
        for data, of_data in zip(datasets, returns, strict=True)
    ]
    names = ("observations", "rewards", "next_observations", "terminals")
    columns = [tuple(getattr(data, name) for name in names) for data in datasets]

    def draw(data, key):
        columns, count, model = data
        return uniform_rows(columns, key, config.batch_size, count), model

    def loss(params, target, batch, _key):
        (states, rewards, next_states, terminals), model = batch
        following = jnp.where(terminals, 0.0, model.one(target, next_states))
        goal = jax.lax.stop_gradient(rewards / model.scale + config.discount * following)
        return jnp.square(goal - model.one(params, states)).mean()

    fitted = fit_seeds(
        "value",
        models[0].init,
        loss,
        draw,
        (*pad_rows(columns), jax.tree.map(lambda *leaves: np.stack(leaves), *models)),
        adam(config.learning_rate, config.schedule, config.steps),
        steps=config.steps,
        key=jax.vmap(lambda key: jax.random.split(key, 2))(keys),
        data_axes=0,
        ema=Ema(decay=1 - config.target_average),
        hooks=hooks,
    )

    def judged(model, of, data, returns):
        model = model.replace(params=of.params)
        estimates = values(model, data.observations)
        return model, {
            "mean": float(estimates.mean()),
            "correlation_with_returns": _correlation(estimates, returns),
        }

    return [judged(*of) for of in zip(models, fitted, datasets, returns, strict=True)]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / max(np.sqrt((x**2).sum() * (y**2).sum()), 1e-12))


_apply = jax.jit(lambda model, states: model(states))


def values(model: Value, states: np.ndarray) -> np.ndarray:
    """V of any number of states: (N, m) -> (N,), on the host."""
    return in_batches(lambda s: _apply(model, s), states)
