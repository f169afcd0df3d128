"""The models that decide on a stitch and complete it, for Algorithms 4 and 5."""

from typing import Protocol

import jax
import numpy as np
from flax import struct

from tskd_jax.models import cvae, inverse_dynamics, wgan
from tskd_jax.models.cvae import CVAE
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.models.wgan import WGAN
from tskd_jax.teacher import reward_generator
from tskd_jax.teacher.diffuser import Diffuser, SamplingConfig
from tskd_jax.training.callbacks import TrainingCallbacks


class Pricing(Protocol):
    """The models of a stitch: a pytree, with the seeds as leading axis.

    Attributes:
      ensemble: p_i(s'|s), which decides whether a stitch is possible (Equation 9).
    """

    ensemble: DynamicsEnsemble

    def price(
        self, s: np.ndarray, s_next: np.ndarray, key: jax.Array, callbacks: TrainingCallbacks
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions (N, n) and rewards (N,) of going from s (N, m) to s' (N, m), raw units.

        To be called on the models of one seed (`seeds.of_seed`).

        Args:
          s, s_next: the pairs.
          key: random key.
          callbacks: `on_compiled` is called with the bytes that the sampler takes.
        """
        ...


@struct.dataclass
class DiffusionPricing:
    """The pricing of TSKD (Algorithm 4): inverse dynamics and DDR-II.

    Attributes:
      ensemble: as in `Pricing`.
      inverse_dynamics: f(s, s'), gives the action.
      reward_generator: DDR-II, gives the reward.
      sampling: how DDR-II is sampled.
    """

    ensemble: DynamicsEnsemble
    inverse_dynamics: InverseDynamics
    reward_generator: Diffuser
    sampling: SamplingConfig = struct.field(pytree_node=False)

    def price(
        self, s: np.ndarray, s_next: np.ndarray, key: jax.Array, callbacks: TrainingCallbacks
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Pricing.price`."""
        actions = inverse_dynamics.actions_between(self.inverse_dynamics, s, s_next)
        rewards = reward_generator.rewards_between(
            *(self.reward_generator, self.sampling, s, s_next, key),
            on_compiled=callbacks.on_compiled,
        )
        return actions, rewards

    def disagreement(
        self, s: np.ndarray, s_next: np.ndarray, key: jax.Array, callbacks: TrainingCallbacks
    ) -> np.ndarray:
        """(N,) standard deviation of the rewards by DDR-II's members; arguments as for `price`."""
        rewards = reward_generator.member_rewards(
            *(self.reward_generator, self.sampling, s, s_next, key),
            on_compiled=callbacks.on_compiled,
        )
        return rewards.std(0)


@struct.dataclass
class GenerativePricing:
    """The pricing of MBTS (Algorithm 5): a CVAE gives the action, then a WGAN its reward.

    Attributes:
      ensemble: as in `Pricing`.
      cvae: p(a | s, s'), gives the action.
      wgan: p(r | s, a, s'), gives the reward.
    """

    ensemble: DynamicsEnsemble
    cvae: CVAE
    wgan: WGAN

    def price(
        self, s: np.ndarray, s_next: np.ndarray, key: jax.Array, callbacks: TrainingCallbacks
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Pricing.price`."""
        del callbacks
        action_key, reward_key = jax.random.split(key)
        actions = cvae.sample_actions(self.cvae, s, s_next, action_key)
        return actions, wgan.sample_rewards(self.wgan, s, actions, s_next, reward_key)
