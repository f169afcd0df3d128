"""Rewards of MBTS's stitches: a Wasserstein GAN p(r | s, a, s').

Line 10 of the paper's Algorithm 5. The generator gives a reward for (s, a, s') and latent noise;
the critic is trained to score recorded rewards above generated ones (Arjovsky et al. 2017). Fields
and losses are those of the public code of MBTS (Hepburn and Montana 2023), which regularises the
critic by a penalty on its squared weights, with neither weight clipping nor a gradient penalty.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, NOT_NEGATIVE, WIDTHS, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.models import held_out
from tskd_jax.models.inverse_dynamics import pair_features
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Bounds
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.optimizers import delayed, of_parts
from tskd_jax.training.training import (
    Training,
    TrainingConfig,
    adam,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)

MOMENTUM = 0.5  # Adam's β₁ for both networks, as in MBTS; β₂ is the usual 0.999


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.wgan`."""

    steps: int = steps_field(500_000, "of the critic, as MBTS: 100,000 of the generator")
    batch_size: int = batch_size_field(256, "as MBTS")
    learning_rate: float = learning_rate_field(1e-4, "as MBTS")
    schedule: str = schedule_field()
    hidden: tuple[int, ...] = field((512, 512), WIDTHS, "hidden layers of both networks (MBTS)")
    latents: int = field(2, COUNT, "dimensions of the generator's noise (MBTS, Appendix E)")
    critic_steps: int = field(5, COUNT, "updates of the critic for one of the generator (MBTS)")
    penalty: float = field(1e-4, NOT_NEGATIVE, "weight of the critic's squared weights (MBTS)")

    def optimizer(self) -> optax.GradientTransformation:
        """The critic's optimizer."""
        return adam(self.learning_rate, self.schedule, self.steps, MOMENTUM)

    def generator_optimizer(self) -> optax.GradientTransformation:
        """The generator's optimizer, which acts in every `critic_steps`-th update only."""
        moves = max(1, self.steps // self.critic_steps)
        return delayed(self.critic_steps, adam(self.learning_rate, self.schedule, moves, MOMENTUM))


@struct.dataclass
class WGAN:
    """Generator and critic: multilayer perceptrons on s, its change, and a.

    Attributes:
      params: `generator`, and during training also `critic`.
      normalizer: of states.
      reward_mean, reward_deviation: () of recorded rewards, by which the networks' rewards are
        standardised. The deviation is 1 if all rewards are equal.
      hidden: widths of the hidden layers of both.
      latents: dimensions of the noise.
      bounds: of the actions.
    """

    params: Leaf
    normalizer: Normalizer
    reward_mean: Leaf
    reward_deviation: Leaf
    hidden: tuple[int, ...] = struct.field(pytree_node=False)
    latents: int = struct.field(pytree_node=False)
    bounds: Bounds = struct.field(pytree_node=False)

    @property
    def network(self) -> MLP:
        return MLP(self.hidden, 1)

    def init(self, key: jax.Array) -> dict[str, Leaf]:
        """Fresh parameters."""
        generator_key, critic_key = jax.random.split(key)
        size = 2 * self.normalizer.raw.shape[1] + len(self.bounds.low)
        return {
            "generator": self.network.init(generator_key, jnp.zeros((1, size + self.latents))),
            "critic": self.network.init(critic_key, jnp.zeros((1, size + 1))),
        }

    def features(
        self,
        states: Float[Array, "batch state"],
        actions: Float[Array, "batch action"],
        next_states: Float[Array, "batch state"],
    ) -> Float[Array, "batch features"]:
        """The inputs that both networks share, from raw transitions."""
        pairs = pair_features(self.normalizer, states, next_states)
        return jnp.concatenate([pairs, self.bounds.shrink(actions)], -1)

    def generate(
        self,
        params: Leaf,
        features: Float[Array, "batch features"],
        noise: Float[Array, "batch latent"],
    ) -> Float[Array, "batch 1"]:
        """Standardised rewards."""
        inputs = jnp.concatenate([features, noise], -1)
        return jnp.asarray(self.network.apply(params["generator"], inputs))

    def criticize(
        self,
        params: Leaf,
        features: Float[Array, "batch features"],
        rewards: Float[Array, "batch 1"],
    ) -> Float[Array, " batch"]:
        """The critic's scores of standardised rewards; higher means more like a recorded one."""
        inputs = jnp.concatenate([features, rewards], -1)
        return jnp.asarray(self.network.apply(params["critic"], inputs))[:, 0]

    def __call__(
        self,
        states: Float[Array, "batch state"],
        actions: Float[Array, "batch action"],
        next_states: Float[Array, "batch state"],
        noise: Float[Array, "batch latent"],
    ) -> Float[Array, " batch"]:
        """Rewards of raw transitions, in raw units."""
        features = self.features(states, actions, next_states)
        standardised = self.generate(self.params, features, noise)[:, 0]
        return self.reward_mean + self.reward_deviation * standardised


def create(config: Config, trajectories: Trajectories, task: Task) -> WGAN:
    """The model of one seed for a dataset, without parameters."""
    rewards = trajectories.rewards.astype(np.float64)
    return WGAN(
        params=None,
        normalizer=fit_normalizer("gaussian", trajectories.observations),
        reward_mean=np.float32(rewards.mean()),
        reward_deviation=np.float32(rewards.std() or 1.0),
        hidden=config.hidden,
        latents=config.latents,
        bounds=task.bounds,
    )


def training(
    config: Config, trajectories: Trajectories, task: Task, keys: jax.Array
) -> tuple[Training, list[np.ndarray]]:
    """The training of both networks on recorded transitions, with a single loss.

    Every update moves the critic, every `critic_steps`-th also the generator. The reported loss is
    the critic's: minus its estimate of the Wasserstein distance, plus the penalty.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      task: gives the action bounds.
      keys: (S,).

    Returns:
      (the training; the held-out transitions of each seed).
    """
    model = create(config, trajectories, task)
    standardised = (trajectories.rewards - model.reward_mean) / model.reward_deviation
    columns = (
        *(trajectories.observations, trajectories.actions, trajectories.next_observations),
        standardised[:, None].astype(np.float32),
    )

    def loss(params, _ema, batch, key):
        fixed = jax.lax.stop_gradient
        *transitions, rewards = batch
        features = model.features(*transitions)
        noise = jax.random.normal(key, (len(rewards), config.latents))
        generated = model.generate(params, features, noise)
        recorded_score = model.criticize(params, features, rewards).mean()
        generated_score = model.criticize(params, features, fixed(generated)).mean()
        squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params["critic"]))
        of_critic = generated_score - recorded_score + config.penalty * squares
        fixed_critic = {"critic": fixed(params["critic"])}
        of_generator = -model.criticize(fixed_critic, features, generated).mean()
        # The generator's loss contributes its gradient, but not its value, to the reported loss.
        return of_critic + of_generator - fixed(of_generator)

    plan, splits = held_out.training(
        *("wgan", config, trajectories, columns, keys),
        init=model.init,
        loss=loss,
        optimizer=of_parts(config, {"generator": config.generator_optimizer()}),
    )
    return plan, [rows for _, rows in splits]


def train(
    config: Config,
    trajectories: Trajectories,
    task: Task,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[WGAN, list[dict[str, float]]]:
    """Fit both networks and measure the generator's error on held-out transitions (Equation 12).

    Returns:
      (the model without its critic, the seeds as leading axis of every leaf; metrics of each seed:
      `held_out_mse` and `held_out_r2` of one sampled reward per transition).

    Raises:
      DivergenceError, OutOfMemoryError: as for `fit`.
    """
    plan, tested = training(config, trajectories, task, keys)
    fitted = fit(plan, callbacks)
    models = seeds.for_seeds(create(config, trajectories, task), len(keys))
    models = models.replace(params={"generator": fitted.params["generator"]})

    def measure(model: WGAN, rows: np.ndarray, key: jax.Array) -> dict[str, float]:
        states, actions, next_states, rewards = (
            getattr(trajectories, name)[rows]
            for name in ("observations", "actions", "next_observations", "rewards")
        )
        errors = sample_rewards(model, states, actions, next_states, key) - rewards
        return {
            "held_out_mse": float(np.square(errors).mean()),
            "held_out_r2": held_out.explained(errors, rewards),
        }

    return models, [
        measure(seeds.of_seed(models, index), rows, key)
        for index, (rows, key) in enumerate(zip(tested, keys, strict=True))
    ]


_apply = jax.jit(lambda model, *columns: model(*columns))


def sample_rewards(
    model: WGAN,
    states: np.ndarray,
    actions: np.ndarray,
    next_states: np.ndarray,
    key: jax.Array,
) -> np.ndarray:
    """Sample one reward from p(r | s, a, s') per transition, for any number of them, on the host.

    Args:
      model: of one seed.
      states, next_states: (N, m) raw.
      actions: (N, n) raw.
      key: random key.

    Returns:
      (N,) rewards, raw units.
    """
    noise = np.asarray(jax.random.normal(key, (len(states), model.latents)))
    columns = states, actions, next_states, noise
    return in_batches(lambda *batch: _apply(model, *batch), *columns)
