"""Baseline: the mean next state and the mean return, given a state alone.

Not in the paper. DDR-I must tell apart what different actions lead to, but on a robot an action
accounts for only a small part of the change of state. Two regressions predict the rest, which is
then subtracted: the residual of the next state is the effect of the action (`residual`), that of
the return is how good the action was (`condition=advantage`).

There are two networks, each fitted to half of the episodes. A regression knows how the episodes
that it was fitted to continued, so it would leave no residual. The value of a recorded state is
therefore that of the network which has not seen its episode.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer, moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import WIDTHS, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.mlp import MLP
from tskd_jax.training import seeds
from tskd_jax.training.batching import draw_from
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

RECENT = 100  # a truncated episode's last steps, whose mean reward stands for what would follow


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.baseline`."""

    steps: int = steps_field(20_000, "not in the paper")
    batch_size: int = batch_size_field(512, "not in the paper")
    learning_rate: float = learning_rate_field(1e-3, "not in the paper")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((512, 512), WIDTHS, "hidden layers")


@struct.dataclass
class Baseline:
    """E[s' | s] and E[R_t | s] of the recorded behaviour; R_t is from `bootstrapped_returns`.

    Attributes:
      params: with the two networks as leading axis; each predicts both.
      states: normaliser of s.
      change_mean, change_deviation: (m,) of s' - s, raw units; a dimension that never changes has
        deviation 1.
      return_mean, return_deviation: () of R_t.
      hidden: widths of the hidden layers.
    """

    params: Leaf
    states: Normalizer
    change_mean: Leaf
    change_deviation: Leaf
    return_mean: Leaf
    return_deviation: Leaf
    hidden: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def network(self) -> MLP:
        return MLP(self.hidden, self.change_mean.shape[0] + 1)

    def init(self, key: jax.Array) -> Leaf:
        """Fresh parameters of one network."""
        return self.network.init(key, jnp.zeros((1, self.change_mean.shape[0])))

    def answer(self, params: Leaf, states: Float[Array, "batch state"]) -> Float[Array, "batch _"]:
        """(batch, m + 1) of one network: change of state, then return, both standardised."""
        return jnp.asarray(self.network.apply(params, self.states.normalize(states)))

    def next_state(self, states: Float[Array, "batch state"]) -> Float[Array, "batch state"]:
        """E[s' | s], raw units: the mean of both networks."""
        change = jax.vmap(self.answer, (0, None))(self.params, states).mean(0)[:, :-1]
        scale = jnp.asarray(self.change_deviation)[None]
        return states + jnp.asarray(self.change_mean)[None] + scale * change

    def values(self, states: Float[Array, "batch state"]) -> Float[Array, "batch network"]:
        """E[R_t | s] by each network, raw units of reward."""
        answers = jax.vmap(self.answer, (0, None), 1)(self.params, states)[:, :, -1]
        return self.return_mean + self.return_deviation * answers


def create(config: Config, trajectories: Trajectories, discount: float) -> Baseline:
    """The baseline of one seed for a dataset, without parameters; γ is `discount`."""
    mean, deviation = moments(trajectories.next_observations - trajectories.observations)
    returns = bootstrapped_returns(trajectories, discount)
    return Baseline(
        params=None,
        states=fit_normalizer("gaussian", trajectories.observations),
        change_mean=mean.astype(np.float32),
        change_deviation=np.where(deviation > 0, deviation, 1.0).astype(np.float32),
        return_mean=np.float32(returns.mean()),
        return_deviation=np.float32(returns.std() or 1.0),
        hidden=config.hidden,
    )


def halves(episodes: int) -> np.ndarray:
    """(E,) 0 or 1: the half to which each of E episodes belongs, by its place alone."""
    return np.random.default_rng(0).permutation(episodes) % 2


def half_of(trajectories: Trajectories) -> np.ndarray:
    """(N,) 0 or 1: the half to which each transition's episode belongs."""
    return halves(len(trajectories.lengths))[trajectories.episode_of]


def training(
    config: Config, trajectories: Trajectories, discount: float, keys: jax.Array
) -> Training:
    """The training of both networks of all seeds by squared error.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      discount: γ < 1.
      keys: (S,).

    Returns:
      The training with keys (S, 2): the two networks of a seed are fitted to different rows.
    """
    model = create(config, trajectories, discount)
    change = trajectories.next_observations - trajectories.observations
    returns = bootstrapped_returns(trajectories, discount)
    targets = np.concatenate(
        [
            (change - model.change_mean) / model.change_deviation,
            ((returns - model.return_mean) / model.return_deviation)[:, None],
        ],
        -1,
    ).astype(np.float32)

    half = half_of(trajectories)
    rows = [np.flatnonzero(half == network) for network in range(2)]
    # A single episode cannot be halved: both networks are fitted to it.
    rows = [found if len(found) else np.arange(trajectories.size) for found in rows]

    def loss(params, _ema, batch, _key):
        states, targets = batch
        return jnp.square(model.answer(params, states) - targets).mean()

    return Training(
        name="baseline",
        init=model.init,
        loss=loss,
        draw=draw_from(config.batch_size),
        data=((trajectories.observations, targets), *seeds.pad_rows(rows)),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jax.vmap(lambda key: jax.random.split(key, 2))(keys),
        member_axes=(None, 0, 0),
    )


def train(
    config: Config,
    trajectories: Trajectories,
    discount: float,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[Baseline, list[dict[str, float]]]:
    """Fit both regressions.

    Returns:
      (the baseline with the seeds as leading axis of every leaf, parameters (S, 2, …); metrics of
      each seed: shares of the variance of s' - s and of R_t that the state explains; for R_t, by
      the network that has not seen the episode).
    """
    fitted = fit(training(config, trajectories, discount, keys), callbacks)
    models = seeds.for_seeds(create(config, trajectories, discount), len(keys)).replace(
        params=fitted.params
    )
    returns = bootstrapped_returns(trajectories, discount)

    def measure(model: Baseline) -> dict[str, float]:
        states = trajectories.observations
        change_error = trajectories.next_observations - next_states(model, states)
        return_error = returns - unseen_values(model, trajectories, states)
        return {
            "change_explained": float(1 - np.mean((change_error / model.change_deviation) ** 2)),
            "return_explained": float(1 - np.mean(return_error**2) / max(returns.var(), 1e-12)),
        }

    return models, [measure(seeds.of_seed(models, i)) for i in range(len(keys))]


_next_state = jax.jit(lambda model, states: model.next_state(states))
_values = jax.jit(lambda model, states: model.values(states))


def next_states(model: Baseline, states: np.ndarray) -> np.ndarray:
    """E[s' | s] by one seed for any number of states: (N, m) -> (N, m), on the host."""
    return in_batches(lambda s: _next_state(model, s), states)


def unseen_values(model: Baseline, trajectories: Trajectories, states: np.ndarray) -> np.ndarray:
    """(N,) E[R_t | s] of each row of `states`, by the network fitted to the other half.

    `states` (N, m) has one state of each transition.
    """
    both = in_batches(lambda s: _values(model, s), states)
    return both[np.arange(len(both)), 1 - half_of(trajectories)]


def bootstrapped_returns(trajectories: Trajectories, discount: float) -> np.ndarray:
    """(N,) float64, discounted returns R_t that continue truncated episodes.

    A truncation is not a failure: R_t assumes that every later step would have the mean reward of
    the episode's last `RECENT` steps, for ever.

    Args:
      trajectories: N transitions.
      discount: γ < 1.
    """
    returns = trajectories.returns_to_go(discount)
    starts, ends = trajectories.starts, trajectories.ends
    sums = np.concatenate([[0.0], np.cumsum(trajectories.rewards, dtype=np.float64)])
    recent = np.minimum(trajectories.lengths, RECENT)
    reward = (sums[ends + 1] - sums[ends + 1 - recent]) / recent
    beyond = np.where(trajectories.terminals[ends], 0.0, reward / (1 - discount))
    left = np.repeat(trajectories.lengths, trajectories.lengths) - (
        np.arange(trajectories.size) - np.repeat(starts, trajectories.lengths)
    )
    return returns + beyond[trajectories.episode_of] * discount**left


def advantages(
    model: Baseline, trajectories: Trajectories, discount: float, trace: float
) -> np.ndarray:
    """(N,) float64, advantages: how much better each transition did than its state's baseline.

    Generalised advantage estimation (Schulman et al. 2016): Σ_k (γλ)^k δ_{t+k} up to the episode's
    end, δ = r + γ V(s') - V(s), with V(s') = 0 at terminals only.

    Args:
      model: of one seed; gives V = E[R_t | s].
      trajectories: N transitions, the dataset that the model was fitted to.
      discount: γ.
      trace: λ.
    """
    following = unseen_values(model, trajectories, trajectories.next_observations)
    following = following * ~trajectories.terminals
    now = unseen_values(model, trajectories, trajectories.observations)
    residual = trajectories.rewards + discount * following - now
    return trajectories.replace(rewards=residual).returns_to_go(discount * trace)


def ranks(values: np.ndarray) -> np.ndarray:
    """(N,) float32 ranks in (-1, 1): near -1 for the least value, 0 for the median, near 1 for the
    largest.

    A condition of rank y refers to a share of the data: it asks for what the best (1 - y) / 2 of
    the transitions did.
    """
    rank = np.empty(len(values))
    rank[np.argsort(values, kind="stable")] = np.arange(len(values))
    return (2 * (rank + 0.5) / len(values) - 1).astype(np.float32)
