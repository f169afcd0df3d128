"""What offline actor-critics share: data, twin critics, and actors that are exported as policies.

Each of them (`iql`, `td3_bc`, `rebrac`, `cql`) has a single loss over one tree of parameters: the
sum of the losses of its parts, each with the parameters of the others held fixed. The moving
average of the tree holds the targets. An actor has a student's network and is exported as one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.fields import ANY, POSITIVE_SHARE, PROBABILITY, WIDTHS, field
from tskd_jax.machine.types import Leaf
from tskd_jax.models.cloning import fold, input_scale
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Bounds, Policy
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

RANGE = 1000.0  # range of the returns after `scale_rewards`


@dataclass(frozen=True)
class Config(TrainingConfig):
    """The fields that all have in common; learning rate and schedule are those of the critics."""

    steps: int = steps_field(1_000_000, "as published")
    batch_size: int = batch_size_field(256, "as published")
    learning_rate: float = learning_rate_field(3e-4, "as published")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((256, 256), WIDTHS, "hidden layers of actor and critics")
    discount: float = field(0.99, PROBABILITY, "γ")
    target_average: float = field(0.005, POSITIVE_SHARE, "share of the new weights in the targets")
    normalize: bool = field(True, ANY, "standardise states; folded into the actor on export")
    scale_rewards: bool = field(
        False, ANY, "divide rewards by a thousandth of the range of recorded returns"
    )


class Batch(NamedTuple):
    """Transitions as the networks see them.

    Attributes:
      states, next_states: (B, m) standardised.
      actions, next_actions: (B, n) in [-1, 1], recorded in s and in s'.
      has_next: (B,) 0 where no action is recorded in s' (and `next_actions` is 0), else 1.
      rewards: (B,).
      goes_on: (B,) 0 where s' ends the episode, else 1.
    """

    states: Leaf
    actions: Leaf
    rewards: Leaf
    next_states: Leaf
    next_actions: Leaf
    has_next: Leaf
    goes_on: Leaf


@dataclass(frozen=True)
class Networks:
    """An actor and twin critics with the same hidden layers.

    Attributes:
      hidden: widths of the hidden layers.
      state_size, action_size: m and n.
      stochastic: whether the actor also outputs a log deviation per action dimension, after the
        means.
      layer_norm: whether the critics normalise each of their hidden layers.
    """

    hidden: tuple[int, ...]
    state_size: int
    action_size: int
    stochastic: bool = False
    layer_norm: bool = False

    def init(self, key: jax.Array) -> dict[str, Any]:
        """Fresh parameters: `actor`, and `critic` with the twins as leading axis."""
        actor_key, critic_key = jax.random.split(key)
        inputs = jnp.zeros((1, self.state_size + self.action_size))
        return {
            "actor": self._actor.init(actor_key, inputs[:, : self.state_size]),
            "critic": jax.vmap(lambda one: self._critic.init(one, inputs))(
                jax.random.split(critic_key)
            ),
        }

    @property
    def _actor(self) -> MLP:
        return MLP(self.hidden, self.action_size * (1 + self.stochastic))

    @property
    def _critic(self) -> MLP:
        return MLP(self.hidden, 1, layer_norm=self.layer_norm)

    def outputs(
        self, params: Any, states: Float[Array, "*batch state"]
    ) -> Float[Array, "*batch out"]:
        """The actor's last layer: means before tanh, followed by log deviations if stochastic."""
        return self._actor.apply(params["actor"], states)

    def act(self, params: Any, states: Float[Array, "*batch state"]) -> Float[Array, "*batch n"]:
        """Actions in [-1, 1]; for a stochastic actor, tanh of the means."""
        return jnp.tanh(self.outputs(params, states)[..., : self.action_size])

    def critics(
        self,
        params: Any,
        states: Float[Array, "*batch state"],
        actions: Float[Array, "*batch n"],
    ) -> Float[Array, "critics *batch"]:
        """Q(s, a) by each of the twins."""
        return jax.vmap(lambda one: self.one_critic(one, states, actions))(params["critic"])

    def one_critic(
        self, critic: Any, states: Float[Array, "*batch state"], actions: Float[Array, "*batch n"]
    ) -> Float[Array, "*batch"]:
        """Q(s, a) by one critic, whose parameters have no axis of the twins."""
        return jnp.squeeze(self._critic.apply(critic, jnp.concatenate([states, actions], -1)), -1)

    def first_critic(
        self,
        params: Any,
        states: Float[Array, "*batch state"],
        actions: Float[Array, "*batch n"],
    ) -> Float[Array, "*batch"]:
        """Q(s, a) by the first of the twins."""
        first = {"critic": jax.tree.map(lambda leaf: leaf[:1], params["critic"])}
        return self.critics(first, states, actions)[0]

    def critic_loss(self, params: Any, batch: Batch, goal: Float[Array, " batch"]) -> jax.Array:
        """The mean squared error of Q(s, a) against `goal`, summed over the twins."""
        errors = self.critics(params, batch.states, batch.actions) - goal[None]
        return jnp.square(errors).mean(1).sum()

    def noisy_act(
        self,
        params: Any,
        states: Float[Array, "batch state"],
        key: jax.Array,
        deviation: float,
        limit: float,
    ) -> Float[Array, "batch n"]:
        """Actions in [-1, 1] with clipped normal noise, for the targets (TD3)."""
        actions = self.act(params, states)
        noise = deviation * jax.random.normal(key, actions.shape)
        return jnp.clip(actions + jnp.clip(noise, -limit, limit), -1, 1)


def networks(config: Config, task: Task, **kind: bool) -> Networks:
    """The networks for a task; `kind` is passed on to `Networks`."""
    return Networks(config.hidden, task.state_size, task.action_size, **kind)


def columns(config: Config, recorded: Trajectories, bounds: Bounds) -> Batch:
    """All transitions of a dataset as one batch, on the host."""
    mean, deviation = input_scale(recorded, config.normalize)
    actions = bounds.shrink(recorded.actions)
    next_actions = np.roll(actions, -1, axis=0)
    has_next = np.ones(recorded.size, np.float32)
    has_next[recorded.ends] = 0
    scale = RANGE / spread if config.scale_rewards and (spread := _spread(recorded)) else 1.0
    return Batch(
        states=(recorded.observations - mean) / deviation,
        actions=actions,
        rewards=(recorded.rewards * scale).astype(np.float32),
        next_states=(recorded.next_observations - mean) / deviation,
        next_actions=next_actions * has_next[:, None],
        has_next=has_next,
        goes_on=1.0 - recorded.terminals.astype(np.float32),
    )


def training(
    name: str,
    config: Config,
    recorded: Trajectories,
    task: Task,
    student_seeds: tuple[int, ...],
    *,
    init: Callable[[jax.Array], Any],
    loss: Callable[[Any, Any, Batch, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    targets_every: int = 1,
) -> Training:
    """The training of one actor, with its critics, for each seed.

    Args:
      name: for messages.
      config: of the algorithm.
      recorded: the dataset.
      task: gives the action bounds.
      student_seeds: S.
      init: key -> parameters.
      loss: (parameters, targets, batch, key) -> the sum of the losses of all parts.
      optimizer: of all parameters.
      targets_every: number of updates between two moves of the targets.
    """

    def draw(data, key):
        return uniform_rows(data, key, config.batch_size)

    return Training(
        name=name,
        init=init,
        loss=loss,
        draw=draw,
        data=columns(config, recorded, task.bounds),
        optimizer=optimizer,
        steps=config.steps,
        keys=jnp.stack([jax.random.key(seed) for seed in student_seeds]),
        ema=Ema(decay=1 - config.target_average, every=targets_every),
    )


def train(
    plan: Training,
    config: Config,
    recorded: Trajectories,
    task: Task,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[list[Policy], list[dict[str, float | None]]]:
    """Train the actors; return policies on raw states, in the order of the seeds, and the loss.

    Raises:
      ConfigError: rewards are to be scaled by the range of returns, and there is none.
    """
    if config.scale_rewards and not _spread(recorded):
        raise ConfigError(
            f"config.{plan.name}.scale_rewards=True divides rewards by the range of the recorded "
            "returns, and these are all equal, or of one transition each; set "
            f"--config.{plan.name}.scale_rewards=False"
        )
    fitted = fit(plan, callbacks)
    scale = input_scale(recorded, config.normalize)
    actors = _means(fitted.params["actor"], task.action_size)
    policies = [
        fold(seeds.of_seed(actors, index), *scale, task.bounds) for index in range(len(plan.keys))
    ]
    return policies, [{"loss": fitted.metrics.get("loss")}]


def _spread(recorded: Trajectories) -> float:
    """The range of the returns; 0 if it is nothing but rounding, or episodes are single rows."""
    returns = recorded.returns()
    spread = float(np.ptp(returns))
    known = recorded.lengths.max() > 1 and spread > 1e-6 * np.abs(returns).max()
    return spread if known else 0.0


def _means(actors: Any, action_size: int) -> Any:
    """The actors of all seeds, without the outputs for log deviations if they have any."""
    layers = actors["params"]
    last = f"Dense_{len(layers) - 1}"
    means = {name: leaf[..., :action_size] for name, leaf in layers[last].items()}
    return {"params": layers | {last: means}}
