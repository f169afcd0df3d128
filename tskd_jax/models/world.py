"""The world: an ensemble of forward models T(s, a) → s', r, learned from recorded transitions.

Not in the paper, which executes actions in the simulator (Algorithm 1). Without a simulator, the
world predicts the outcome of an action.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer, moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import COUNT, NOT_NEGATIVE, WIDTHS, between, field
from tskd_jax.machine.batching import evenly, in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.models import held_out
from tskd_jax.nn.mlp import MLP
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

MARGIN = 0.2  # how far predictions may lie beyond the recorded range, as a share of it
# A rollout ends where members disagree more than DOUBT times the (1 - RARE) quantile of recorded
# transitions: even a good policy's rollout meets more disagreement than recorded transitions do.
DOUBT, RARE = 1.5, 1e-4
LENGTHS, STARTS = (10, 50), 256  # held-out rollouts of the metrics: their steps; most of each


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.world`."""

    steps: int = steps_field(100_000, "not in the paper")
    batch_size: int = batch_size_field(256, "not in the paper")
    learning_rate: float = learning_rate_field(1e-3, "not in the paper")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((256, 256, 256), WIDTHS, "hidden layers")
    members: int = field(4, COUNT, "forward models")
    held_out: float = field(0.05, between(0.001, 0.9), "share of transitions held out")
    noise: float = field(
        0.0,
        NOT_NEGATIVE,
        "of the world in which teachers imagine several steps: on the states that it learns from, "
        "in deviations of s' - s, so that it mends small errors; another, without, judges",
    )


@struct.dataclass
class World:
    """Forward models, one for each member.

    The networks see normalised states and actions, and predict the normalised change of state and
    the normalised reward. Errors compound over a rollout. So predictions far beyond the recorded
    range are clipped, and a rollout has left what is known once the members disagree more than they
    do about recorded transitions (`knows`).

    Attributes:
      params: with the members as leading axis.
      states: normaliser of s.
      actions: normaliser of a.
      change_mean, change_deviation: (m,) of s' - s in the dataset; a dimension that never changes
        has deviation 0, and stays constant.
      reward_mean, reward_deviation: () of r.
      lowest, highest: (m + 1,) the recorded range of s, then of r, widened by `MARGIN`.
      doubt: () the largest `apart` at which a step counts as known; set by `DOUBT` and `RARE`.
      hidden: widths of the hidden layers.
    """

    params: Leaf
    states: Normalizer
    actions: Normalizer
    change_mean: Leaf
    change_deviation: Leaf
    reward_mean: Leaf
    reward_deviation: Leaf
    lowest: Leaf
    highest: Leaf
    doubt: Leaf
    hidden: tuple[int, ...] = struct.field(pytree_node=False)

    @property
    def network(self) -> MLP:
        return MLP(self.hidden, len(self.change_mean) + 1)

    def init(self, key: jax.Array) -> Leaf:
        """Fresh parameters of one member."""
        inputs = self.states.raw.shape[1] + self.actions.raw.shape[1]
        return self.network.init(key, jnp.zeros((1, inputs)))

    def normalized(
        self,
        params: Leaf,
        states: Float[Array, "batch state"],
        actions: Float[Array, "batch action"],
    ) -> Float[Array, "batch outputs"]:
        """One member's normalised change of state, followed by the normalised reward."""
        inputs = [self.states.normalize(states), self.actions.normalize(actions)]
        return self.network.apply(params, jnp.concatenate(inputs, -1))

    def one(
        self,
        params: Leaf,
        states: Float[Array, "batch state"],
        actions: Float[Array, "batch action"],
    ) -> tuple[Float[Array, "batch state"], Float[Array, " batch"]]:
        """(s', r) by one member, raw units."""
        output = self.normalized(params, states, actions)
        change = self.change_mean[None] + self.change_deviation[None] * output[:, :-1]
        reward = self.reward_mean + self.reward_deviation * output[:, -1:]
        both = jnp.concatenate([states + change, reward], -1)
        both = jnp.clip(both, self.lowest[None], self.highest[None])
        return both[:, :-1], both[:, -1]

    def apart(self, answers: Float[Array, "batch member state"]) -> Float[Array, " batch"]:
        """The spread of the members' next states, in deviations of s' - s; mean over dimensions."""
        scale = jnp.where(self.change_deviation > 0, self.change_deviation, 1.0)
        return (answers.std(1) / scale[None]).mean(-1)

    def knows(self, apart: Float[Array, "*batch"]) -> Bool[Array, "*batch"]:
        """Whether members agree on a step as on recorded ones; if not, what follows is fiction."""
        return apart <= self.doubt

    def __call__(
        self, states: Float[Array, "batch state"], actions: Float[Array, "batch action"]
    ) -> tuple[Float[Array, "batch member state"], Float[Array, "batch member"]]:
        """(s', r) by every member, raw units."""
        return jax.vmap(self.one, (0, None, None), 1)(self.params, states, actions)


def create(config: Config, trajectories: Trajectories) -> World:
    """The world of one seed for a dataset, without parameters."""
    change_mean, change_deviation = moments(
        trajectories.next_observations - trajectories.observations
    )
    (reward_mean,), (reward_deviation,) = moments(trajectories.rewards[:, None])
    lowest, highest = _range(trajectories)
    return World(
        params=None,
        states=fit_normalizer("gaussian", trajectories.observations),
        actions=fit_normalizer("gaussian", trajectories.actions),
        change_mean=change_mean.astype(np.float32),
        change_deviation=change_deviation.astype(np.float32),
        reward_mean=np.float32(reward_mean),
        reward_deviation=np.float32(reward_deviation),
        lowest=lowest,
        highest=highest,
        doubt=np.float32(np.inf),
        hidden=config.hidden,
    )


def _range(trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest s and r, widened by the margin, (m + 1,) each."""
    states = np.concatenate([trajectories.observations, trajectories.next_observations])
    low = np.append(states.min(0), trajectories.rewards.min()).astype(np.float32)
    high = np.append(states.max(0), trajectories.rewards.max()).astype(np.float32)
    # Rounding must not clip a dimension that never changes.
    margin = MARGIN * np.maximum(high - low, 1e-3 * (1 + np.abs(high)))
    return low - margin, high + margin


def training(
    config: Config, trajectories: Trajectories, keys: jax.Array
) -> tuple[Training, list[np.ndarray]]:
    """The training of all members of all seeds by mean squared error; `keys` is (S,).

    From noisy states they learn the recorded next state (Sanchez-Gonzalez et al. 2020).

    Returns:
      (the training; the held-out transitions of each seed).
    """
    model = create(config, trajectories)
    names = ("observations", "actions", "next_observations", "rewards")
    columns = tuple(getattr(trajectories, name) for name in names)
    # A dimension that never changes leaves nothing to learn.
    deviation = np.where(model.change_deviation > 0, model.change_deviation, 1.0)
    reward_deviation = model.reward_deviation or 1.0

    def loss(params, _ema, batch, key):
        states, actions, next_states, rewards = batch
        if config.noise:
            scale = config.noise * model.change_deviation[None]
            states = states + scale * jax.random.normal(key, states.shape)
        change = (next_states - states - model.change_mean[None]) / deviation[None]
        reward = (rewards - model.reward_mean) / reward_deviation
        goal = jnp.concatenate([change, reward[:, None]], -1)
        return jnp.square(model.normalized(params, states, actions) - goal).mean()

    plan, splits = held_out.training(
        *("world", config, trajectories, columns, keys),
        init=model.init,
        loss=loss,
        share=config.held_out,
        members=config.members,
    )
    return plan, [rows for _, rows in splits]


def train(
    config: Config,
    trajectories: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[World, Sequence[dict[str, float]]]:
    """Fit the members and measure their mean's error on held-out transitions.

    Returns:
      (the world with the seeds as leading axis of every leaf, parameters (S, members, …); metrics
      of each seed: the root mean square error of s', in standard deviations of the state; the same
      after 10 and 50 recorded actions, where episodes are long enough; the members' disagreement;
      the explained share of the reward's variance).
    """
    plan, tested = training(config, trajectories, keys)
    fitted = fit(plan, callbacks)
    models = seeds.for_seeds(create(config, trajectories), len(keys))
    models = models.replace(params=fitted.params)
    doubts = [_doubt(seeds.of_seed(models, index), trajectories) for index in range(len(keys))]
    models = models.replace(doubt=np.array(doubts, np.float32))

    def measure(model: World, rows: np.ndarray) -> dict[str, float]:
        states, actions = trajectories.observations[rows], trajectories.actions[rows]
        next_states, rewards = predictions(model, states, actions)
        deviation = np.maximum(moments(trajectories.observations)[1], 1e-6)
        off = (next_states.mean(1) - trajectories.next_observations[rows]) / deviation
        recorded = trajectories.rewards[rows]
        return {
            "held_out_error": float(np.sqrt(np.square(off).mean())),
            **_errors_after(model, trajectories, rows, deviation),
            "disagreement": float(np.sqrt(np.square(next_states.std(1) / deviation).mean())),
            "held_out_reward_r2": held_out.explained(rewards.mean(1) - recorded, recorded),
        }

    return models, [measure(seeds.of_seed(models, i), rows) for i, rows in enumerate(tested)]


def _errors_after(
    model: World, trajectories: Trajectories, rows: np.ndarray, deviation: np.ndarray
) -> dict[str, float]:
    """Errors of the members' mean after each of `LENGTHS` recorded actions, from states of `rows`.

    A model that errs a little in one step may err much in an episode, because errors compound.
    """
    left = trajectories.ends[trajectories.episode_of] - np.arange(trajectories.size)
    errors = {}
    for length in LENGTHS:
        starts = rows[left[rows] >= length - 1]
        if not len(starts):
            continue
        steps = starts[evenly(len(starts), STARTS)][:, None] + np.arange(length)
        states, actions = trajectories.observations[steps[:, 0]], trajectories.actions[steps]
        reached = np.asarray(_rolled(model, states, actions))
        off = (reached - trajectories.next_observations[steps[:, -1]]) / deviation
        errors[f"error_after_{length}"] = float(np.sqrt(np.square(off).mean()))
    return errors


def _doubt(model: World, trajectories: Trajectories) -> float:
    """`World.doubt` for one seed."""
    columns = trajectories.observations, trajectories.actions
    apart = in_batches(lambda s, a: _apart(model, s, a), *columns)
    return float(DOUBT * np.quantile(apart, 1 - RARE))


@jax.jit
def _rolled(
    model: World, states: Float[Array, "batch state"], actions: Float[Array, "batch time action"]
) -> Float[Array, "batch state"]:
    """The states after these actions, by the members' mean."""

    def step(states, actions):
        return model(states, actions)[0].mean(1), None

    return jax.lax.scan(step, states, jnp.moveaxis(actions, 1, 0))[0]


_apply = jax.jit(lambda model, states, actions: model(states, actions))
_apart = jax.jit(lambda model, states, actions: model.apart(model(states, actions)[0]))


def predictions(
    model: World, states: np.ndarray, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(s', r) by one seed's members: (N, m), (N, n) -> (N, members, m), (N, members), host."""
    return in_batches(lambda s, a: _apply(model, s, a), states, actions)
