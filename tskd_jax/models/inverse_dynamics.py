"""Inverse dynamics a = f(s, s') (section 4.5, Equation 7)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Config, Leaf
from tskd_jax.nn.mlp import MLP
from tskd_jax.training.seeds import fit_seeds, pad_rows
from tskd_jax.training.training import Hooks, adam, uniform_rows


@struct.dataclass
class InverseDynamics:
    """f: an MLP on (s, s'), tanh, times the action bound.

    Attributes:
      params: of the network.
      normalizer: of states.
      hidden: widths of the hidden layers.
      action_bound: of the environment.
    """

    params: Leaf
    normalizer: Normalizer
    hidden: tuple[int, ...] = struct.field(pytree_node=False)
    action_size: int = struct.field(pytree_node=False)
    action_bound: float = struct.field(pytree_node=False)

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
        s, step = self._features(states, next_states)
        output = self.network.apply(self.params, jnp.concatenate([s, step], -1))
        return self.action_bound * jnp.tanh(output)

    def _features(self, states, next_states):
        # The change of state says most about the action and is small beside the state: given as
        # an input of its own it need not be found as a difference of two large numbers.
        s, s_next = self.normalizer.normalize(states), self.normalizer.normalize(next_states)
        return s, (s_next - s) * 10.0


def create(config: Config, trajectories: Trajectories, task: Task) -> InverseDynamics:
    """An untrained model for that dataset; `config` is `config.inverse_dynamics`."""
    model = InverseDynamics(
        params=None,
        normalizer=fit_normalizer("gaussian", trajectories.observations),
        hidden=tuple(config.hidden),
        action_size=task.action_size,
        action_bound=task.action_bound,
    )
    return model.replace(params=model.init(jax.random.key(0)))


def train(
    model: InverseDynamics,
    config: Config,
    trajectories: Trajectories,
    key: jax.Array,
    hooks: Hooks,
) -> tuple[InverseDynamics, dict[str, float]]:
    """Fit f on recorded transitions by mean squared error; report the error on held-out ones."""
    return train_seeds(model, config, trajectories, key[None], hooks)[0]


def train_seeds(
    model: InverseDynamics,
    config: Config,
    trajectories: Trajectories,
    keys: jax.Array,
    hooks: Hooks,
) -> list[tuple[InverseDynamics, dict[str, float]]]:
    """As `train` for each of the keys (seeds,), in one program."""
    split_keys, fit_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    splits = [split_rows(trajectories, 0.05, key) for key in split_keys]
    columns = (trajectories.observations, trajectories.next_observations, trajectories.actions)

    def loss(params, _ema, batch, _key):
        states, next_states, actions = batch
        return jnp.square(model.replace(params=params)(states, next_states) - actions).mean()

    def draw(data, key):
        columns, rows, count = data
        return uniform_rows(columns, key, config.batch_size, count, rows)

    fitted = fit_seeds(
        "inverse_dynamics",
        model.init,
        loss,
        draw,
        (columns, *pad_rows([rows for rows, _ in splits])),
        adam(config.learning_rate, config.schedule, config.steps),
        steps=config.steps,
        key=fit_keys,
        data_axes=(None, 0, 0),
        hooks=hooks,
    )

    def judged(params, held_out):
        trained = model.replace(params=params)
        states, next_states, actions = (column[held_out] for column in columns)
        errors = np.square(actions_between(trained, states, next_states) - actions)
        spread = np.square(actions - actions.mean(0))
        return trained, {
            "held_out_mse": float(errors.mean()),
            "held_out_r2": float(1 - errors.mean() / max(spread.mean(), 1e-12)),
        }

    return [judged(of.params, held) for of, (_, held) in zip(fitted, splits, strict=True)]


_apply = jax.jit(lambda model, states, next_states: model(states, next_states))


def actions_between(
    model: InverseDynamics, states: np.ndarray, next_states: np.ndarray
) -> np.ndarray:
    """f(s, s') for any number of pairs: (N, m), (N, m) -> (N, n) on the host."""
    return in_batches(lambda s, s_next: _apply(model, s, s_next), states, next_states)


def split_rows(
    trajectories: Trajectories, share: float, key: jax.Array
) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, rows held out): whole episodes are held out, at least one of several.

    Neighbours in time are nearly copies of one another, so held-out rows of a trained-on episode
    would flatter. With a single episode its last rows are held out.
    """
    episodes = len(trajectories.lengths)
    if episodes == 1:
        cut = max(1, int(trajectories.size * (1 - share)))
        rows = np.arange(trajectories.size)
        return rows[:cut], rows[min(cut, trajectories.size - 1) :]
    order = np.asarray(jax.random.permutation(key, episodes))
    held = np.zeros(episodes, bool)
    filled = np.cumsum(trajectories.lengths[order]) - trajectories.lengths[order]
    held[order[filled < share * trajectories.size]] = True
    held[order[-1]] = False
    is_held = np.repeat(held, trajectories.lengths)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
