"""Planned steps, executed in a learned world."""

import functools

import jax
import jax.numpy as jnp
from flax import struct

from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.models.world import World
from tskd_jax.teacher.diffuser import Diffuser


@struct.dataclass
class Grounding:
    """Algorithm 1's "execute and observe" in a learned world; the seeds are the leading axis.

    Attributes:
      inverse_dynamics: f, the action for a planned next state.
      world: predicts what that action leads to.
      random_member: whether a random member of the world answers each step; else their mean.
      action_noise: deviation of Gaussian noise on the actions that are executed, but not on those
        that are returned, as a share of half their range (DART, Laskey et al. 2017).
    """

    inverse_dynamics: InverseDynamics
    world: World
    random_member: bool = struct.field(pytree_node=False, default=False)
    action_noise: float = struct.field(pytree_node=False, default=0.0)

    def execute(
        self, model: Diffuser, present: jax.Array, planned: jax.Array, keys: jax.Array
    ) -> tuple:
        """Execute planned steps of one seed, one after the other.

        Args:
          model: DDR-I, whose normalisers are used.
          present: (B, m) normalised.
          planned: (B, steps, m) the next states of a plan, normalised.
          keys: (B,) choose the members that answer, and the noise.

        Returns:
          (rewards (B, steps, 1) and next states (B, steps, m) from the world, normalised; actions
          (B, steps, n), raw units; (B, steps) whether the world knows these steps).
        """

        def step(state, inputs):
            planned, step_keys = inputs
            raw = model.states.unnormalize(state)
            action = self.inverse_dynamics(raw, model.states.unnormalize(planned))
            executed = self._disturbed(action, step_keys) if self.action_noise else action
            everyone, rewards = self.world(raw, executed)
            if self.random_member:
                draw = functools.partial(jax.random.randint, shape=(), minval=0)
                member = jax.vmap(lambda key: draw(key, maxval=rewards.shape[1]))(step_keys)
                following, reward = (
                    jax.vmap(lambda values, index: values[index])(leaf, member)
                    for leaf in (everyone, rewards)
                )
            else:
                following, reward = everyone.mean(1), rewards.mean(1)
            known = self.world.knows(self.world.apart(everyone))
            following = model.states.normalize(following)
            return following, (model.rewards.normalize(reward[:, None]), following, action, known)

        # One level below the keys that sampling derives from the same keys.
        steps = planned.shape[1]
        step_keys = jax.vmap(lambda key: jax.random.split(jax.random.fold_in(key, 1), steps))(keys)
        inputs = jnp.moveaxis(planned, 1, 0), jnp.moveaxis(step_keys, 1, 0)
        _, taken = jax.lax.scan(step, present, inputs)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), taken)

    def _disturbed(self, actions: jax.Array, keys: jax.Array) -> jax.Array:
        """(B, n) actions with noise, within their bounds; keys (B,)."""
        bounds = self.inverse_dynamics.bounds
        # One level below the keys that choose the members.
        draw = jax.vmap(
            lambda key: jax.random.normal(jax.random.fold_in(key, 1), actions.shape[1:])
        )
        disturbed = bounds.shrink(actions) + self.action_noise * draw(keys)
        return bounds.stretch(jnp.clip(disturbed, -1, 1))
