"""What decides on a stitch and completes it: the models behind Algorithms 4 and 5."""

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
    """A pytree of models, each with the seeds as leading axis.

    Attributes:
      ensemble: p_i(s'|s), whether a stitch is possible (Equation 9).
    """

    ensemble: DynamicsEnsemble

    def price(
        self, s: np.ndarray, s_next: np.ndarray, key: jax.Array, callbacks: TrainingCallbacks
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions (N, n) and rewards (N,) of going from s (N, m) to s' (N, m), raw units.

        Of the models of one seed, as `seeds.of_seed` gives them.

        Args:
          s, s_next: the pairs.
          key: randomness.
          callbacks: `on_compiled` is told the bytes of what samples.
        """
        ...


@struct.dataclass
class DiffusionPricing:
    """Of TSKD (Algorithm 4): the inverse dynamics and DDR-II.

    Attributes:
      ensemble: as of `Pricing`.
      inverse_dynamics: f(s, s'), the action.
      reward_generator: DDR-II, the reward.
      sampling: of DDR-II.
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
        """(N,) the deviation of what DDR-II's members say of a reward; arguments as of `price`."""
        rewards = reward_generator.member_rewards(
            *(self.reward_generator, self.sampling, s, s_next, key),
            on_compiled=callbacks.on_compiled,
        )
        return rewards.std(0)


@struct.dataclass
class GenerativePricing:
    """Of MBTS (Algorithm 5): a CVAE's action, and for it a WGAN's reward.

    Attributes:
      ensemble: as of `Pricing`.
      cvae: p(a | s, s'), the action.
      wgan: p(r | s, a, s'), the reward.
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
