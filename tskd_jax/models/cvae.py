"""Actions of MBTS's stitches: a conditional variational autoencoder p(a | s, s').

Line 9 of the paper's Algorithm 5. The encoder gives a Gaussian q(z | s, a, s') over latent
variables; the decoder gives an action for (s, s', z). Fields and loss are those of the public code
of MBTS (Hepburn and Montana 2023), whose networks are those of BCQ (Fujimoto et al. 2019).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import NOT_NEGATIVE, POSITIVE, WIDTHS, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.models import held_out
from tskd_jax.models.inverse_dynamics import pair_features
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

LATENTS_PER_ACTION = 2  # latent variables for each dimension of the action
LOG_STD_RANGE = (-4.0, 15.0)  # of q(z | s, a, s')
LARGE_DATASET = 900_000  # transitions; smaller datasets get networks of widths `hidden_small`


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.cvae`."""

    steps: int = steps_field(400_000, "as MBTS")
    batch_size: int = batch_size_field(100, "as MBTS")
    learning_rate: float = learning_rate_field(1e-4, "as MBTS")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((750, 750), WIDTHS, "hidden layers of encoder and decoder")
    hidden_small: tuple[int, ...] = field(
        (128, 128), WIDTHS, "the same below 900,000 transitions, as MBTS"
    )
    kl_weight: float = field(
        1.0,
        NOT_NEGATIVE,
        "weight of the mean KL divergence beside the mean squared error (MBTS: 1, BCQ: 0.5)",
    )
    latent_limit: float = field(
        0.5, POSITIVE, "to which samples of the prior are clipped (BCQ, MBTS: ±0.5)"
    )


@struct.dataclass
class CVAE:
    """Encoder and decoder: multilayer perceptrons on s and its change; the decoder ends in tanh.

    Attributes:
      params: `encoder` and `decoder`.
      normalizer: of states.
      hidden: widths of the hidden layers of both.
      latent_limit: samples of the prior are clipped to ± this.
      bounds: of the actions.
    """

    params: Leaf
    normalizer: Normalizer
    hidden: tuple[int, ...] = struct.field(pytree_node=False)
    latent_limit: float = struct.field(pytree_node=False)
    bounds: Bounds = struct.field(pytree_node=False)

    @property
    def action_size(self) -> int:
        return len(self.bounds.low)

    @property
    def latents(self) -> int:
        """L, the number of latent variables."""
        return LATENTS_PER_ACTION * self.action_size

    @property
    def encoder(self) -> MLP:
        return MLP(self.hidden, 2 * self.latents)

    @property
    def decoder(self) -> MLP:
        return MLP(self.hidden, self.action_size)

    def init(self, key: jax.Array) -> dict[str, Leaf]:
        """Fresh parameters."""
        encoder_key, decoder_key = jax.random.split(key)
        pair = 2 * self.normalizer.raw.shape[1]
        return {
            "encoder": self.encoder.init(encoder_key, jnp.zeros((1, pair + self.action_size))),
            "decoder": self.decoder.init(decoder_key, jnp.zeros((1, pair + self.latents))),
        }

    def encode(
        self, params: Leaf, pairs: Float[Array, "batch pair"], actions: Float[Array, "batch action"]
    ) -> tuple[Float[Array, "batch latent"], Float[Array, "batch latent"]]:
        """(mean, log deviation) of q(z | s, a, s'), from `pair_features` and actions in [-1, 1]."""
        output = self.encoder.apply(params["encoder"], jnp.concatenate([pairs, actions], -1))
        mean, log_std = jnp.split(jnp.asarray(output), 2, -1)
        return mean, jnp.clip(log_std, *LOG_STD_RANGE)

    def decode(
        self, params: Leaf, pairs: Float[Array, "batch pair"], latents: Float[Array, "batch latent"]
    ) -> Float[Array, "batch action"]:
        """Actions in [-1, 1], from `pair_features` and latent variables."""
        output = self.decoder.apply(params["decoder"], jnp.concatenate([pairs, latents], -1))
        return jnp.tanh(output)

    def __call__(
        self,
        states: Float[Array, "batch state"],
        next_states: Float[Array, "batch state"],
        latents: Float[Array, "batch latent"],
    ) -> Float[Array, "batch action"]:
        """Decode latent variables into the actions between raw states, in raw units."""
        pairs = pair_features(self.normalizer, states, next_states)
        return self.bounds.stretch(self.decode(self.params, pairs, latents))


def kl_divergence(
    mean: Float[Array, "*batch"], log_std: Float[Array, "*batch"]
) -> Float[Array, "*batch"]:
    """KL(N(mean, deviation²) ‖ N(0, 1)) of each dimension, nats."""
    return 0.5 * (jnp.square(mean) + jnp.exp(2 * log_std) - 1) - log_std


def create(config: Config, trajectories: Trajectories, task: Task) -> CVAE:
    """The model of one seed for a dataset, without parameters."""
    return CVAE(
        params=None,
        normalizer=fit_normalizer("gaussian", trajectories.observations),
        hidden=config.hidden if trajectories.size >= LARGE_DATASET else config.hidden_small,
        latent_limit=config.latent_limit,
        bounds=task.bounds,
    )


def training(
    config: Config, trajectories: Trajectories, task: Task, keys: jax.Array
) -> tuple[Training, list[np.ndarray]]:
    """The training on recorded transitions: reconstruction error and KL divergence.

    Both are means over the batch and the dimensions; the error is that of actions in [-1, 1].

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      task: gives the action bounds.
      keys: (S,).

    Returns:
      (the training; the held-out transitions of each seed).
    """
    model = create(config, trajectories, task)
    actions = task.bounds.shrink(trajectories.actions)
    columns = (trajectories.observations, trajectories.next_observations, actions)

    def loss(params, _ema, batch, key):
        states, next_states, actions = batch
        pairs = pair_features(model.normalizer, states, next_states)
        mean, log_std = model.encode(params, pairs, actions)
        latents = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
        errors = jnp.square(model.decode(params, pairs, latents) - actions)
        return errors.mean() + config.kl_weight * kl_divergence(mean, log_std).mean()

    plan, splits = held_out.training(
        *("cvae", config, trajectories, columns, keys),
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
) -> tuple[CVAE, list[dict[str, float]]]:
    """Fit encoder and decoder, and measure both on held-out transitions.

    Returns:
      (the model with the seeds as leading axis of every leaf; metrics of each seed:
      `held_out_mse` of one sampled action per transition, raw units; `held_out_kl`, nats per
      transition, near 0 if the latent variables carry no information).

    Raises:
      DivergenceError, OutOfMemoryError: as for `fit`.
    """
    plan, tested = training(config, trajectories, task, keys)
    fitted = fit(plan, callbacks)
    models = seeds.for_seeds(create(config, trajectories, task), len(keys))
    models = models.replace(params=fitted.params)

    def measure(model: CVAE, rows: np.ndarray, key: jax.Array) -> dict[str, float]:
        states, next_states, actions = (
            getattr(trajectories, name)[rows]
            for name in ("observations", "next_observations", "actions")
        )
        errors = np.square(sample_actions(model, states, next_states, key) - actions)
        divergences = in_batches(
            lambda *batch: _divergence(model, *batch),
            *(states, next_states, task.bounds.shrink(actions)),
        )
        return {"held_out_mse": float(errors.mean()), "held_out_kl": float(divergences.mean())}

    return models, [
        measure(seeds.of_seed(models, index), rows, key)
        for index, (rows, key) in enumerate(zip(tested, keys, strict=True))
    ]


_apply = jax.jit(lambda model, states, next_states, latents: model(states, next_states, latents))


@jax.jit
def _divergence(model: CVAE, states, next_states, actions):
    pairs = pair_features(model.normalizer, states, next_states)
    return kl_divergence(*model.encode(model.params, pairs, actions)).sum(-1)


def sample_actions(
    model: CVAE, states: np.ndarray, next_states: np.ndarray, key: jax.Array
) -> np.ndarray:
    """Sample one action from p(a | s, s') per pair, for any number of pairs, on the host.

    Args:
      model: of one seed.
      states, next_states: (N, m) raw.
      key: random key.

    Returns:
      (N, n) actions, raw units, within their bounds.
    """
    limit = model.latent_limit
    latents = np.asarray(jax.random.normal(key, (len(states), model.latents))).clip(-limit, limit)
    return in_batches(lambda *batch: _apply(model, *batch), states, next_states, latents)
