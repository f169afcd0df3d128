"""Fitted Q evaluation: estimates a student's value from the recorded data alone.

Not in the paper. Q(s, a) of a student π is fitted to r + γ Q(s', π(s')) on recorded transitions
(Le, Voloshin and Yue 2019, "Batch policy learning under constraints"). It is a second opinion
besides the learned world (`tskd_jax.models.referee`), with different errors: it is wrong where π
takes actions that were not recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import ANY, POSITIVE_SHARE, PROBABILITY, WIDTHS, field
from tskd_jax.machine.batching import evenly
from tskd_jax.machine.types import Leaf
from tskd_jax.models.referee import of_each_seed
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Policy
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

MOST_STARTS = 1000  # initial states of episodes at which Q is evaluated


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.fitted_q`."""

    enabled: bool = field(False, ANY, "what each student is worth by fitted Q evaluation")
    steps: int = steps_field(100_000, "not in the paper")
    batch_size: int = batch_size_field(256, "not in the paper")
    learning_rate: float = learning_rate_field(1e-3, "not in the paper")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((128, 128), WIDTHS, "hidden layers")
    discount: float = field(0.99, PROBABILITY, "γ")
    target_average: float = field(
        0.01, POSITIVE_SHARE, "share of the new weights in the target net"
    )


@struct.dataclass
class FittedQ:
    """The network Q of each of P students, whose parameters are passed to the methods.

    Attributes:
      states, actions: normalisers of s and a.
      scale: () factor of the network's output: the standard deviation of the discounted returns.
      hidden: widths of the hidden layers.
    """

    states: Normalizer
    actions: Normalizer
    scale: Leaf
    hidden: tuple[int, ...] = struct.field(pytree_node=False)

    def init(self, key: jax.Array) -> Leaf:
        """Initialise the parameters of one student's Q."""
        size = self.states.raw.shape[1] + self.actions.raw.shape[1]
        return MLP(self.hidden, 1).init(key, jnp.zeros((1, size)))

    def one(
        self,
        params: Leaf,
        states: Float[Array, "batch state"],
        actions: Float[Array, "batch action"],
    ) -> Float[Array, " batch"]:
        """One student's Q(s, a) in units of `scale`."""
        inputs = [self.states.normalize(states), self.actions.normalize(actions)]
        return jnp.asarray(MLP(self.hidden, 1).apply(params, jnp.concatenate(inputs, -1)))[:, 0]


def create(config: Config, recorded: Trajectories) -> FittedQ:
    """Create Q for a dataset, without parameters."""
    return FittedQ(
        states=fit_normalizer("gaussian", recorded.observations),
        actions=fit_normalizer("gaussian", recorded.actions),
        scale=np.float32(recorded.returns_to_go(config.discount).std() or 1.0),
        hidden=config.hidden,
    )


def training(
    config: Config, recorded: Trajectories, policies: Sequence[Policy], keys: jax.Array
) -> Training:
    """The training of all students' Q, by TD(0) with the student's own next action.

    A truncation is not a failure: Q bootstraps through it.

    Args:
      config: the section `config.fitted_q`.
      recorded: the dataset.
      policies: P policies with networks of the same shape.
      keys: (P,) one per student.
    """
    model = create(config, recorded)
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    columns = tuple(np.asarray(getattr(recorded, name)) for name in names)
    # A student's network is larger than Q's, so it is evaluated only once per transition.
    next_actions = np.stack([policy(recorded.next_observations) for policy in policies])

    def draw(data, key):
        return uniform_rows(data, key, config.batch_size)

    def loss(params, target, batch, _key):
        (states, actions, rewards, next_states, terminals), next_actions = batch
        following = jnp.where(terminals, 0.0, model.one(target, next_states, next_actions))
        goal = jax.lax.stop_gradient(rewards / model.scale + config.discount * following)
        return jnp.square(goal - model.one(params, states, actions)).mean()

    return Training(
        name="fitted_q",
        init=model.init,
        loss=loss,
        draw=draw,
        data=(columns, next_actions),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=keys,
        data_axes=(None, 0),
        ema=Ema(decay=1 - config.target_average),
    )


def fitted_q(
    config: Config,
    recorded: Trajectories,
    policies: Sequence[Policy],
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Estimate students' values Q(s, π(s)) in the initial states of recorded episodes.

    Args:
      config: the section `config.fitted_q`.
      recorded: the dataset.
      policies: P policies with networks of the same shape.
      keys: one per pipeline seed.

    Returns:
      ((P, E) discounted returns, raw units of reward, E at most 1,000; metrics of each pipeline
      seed).
    """
    groups = of_each_seed(policies, len(keys))
    of_students = jnp.concatenate(
        [jax.random.split(key, len(group)) for key, group in zip(keys, groups, strict=True)]
    )
    fitted = fit(training(config, recorded, policies, of_students), callbacks)
    starts = recorded.initial_observations
    starts = starts[evenly(len(starts), MOST_STARTS)]
    model = create(config, recorded)
    actions = np.stack([policy(starts) for policy in policies])
    values = np.asarray(_values(model, fitted.params, starts, actions))
    means = np.split(values.mean(1), len(keys))
    return values, [{"value": float(one.mean())} for one in means]


@jax.jit
def _values(model: FittedQ, params: Leaf, starts: np.ndarray, actions: np.ndarray) -> jax.Array:
    """(P, E) values of actions (P, E, n) in states (E, m), raw units."""
    return model.scale * jax.vmap(model.one, (0, None, 0))(params, starts, actions)
