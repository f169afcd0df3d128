"""Diffuser as a policy (Janner et al. 2022, Algorithm 1): the best of several guided plans."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Key

from tskd_jax.diffusion import Sampler, sample
from tskd_jax.machine import devices
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.policy import Bounds
from tskd_jax.teacher.joint_config import PlanningConfig
from tskd_jax.teacher.joint_diffuser import JointDiffuser, is_present_state
from tskd_jax.teacher.value_guide import PlanValue, climb


@struct.dataclass
class Candidates:
    """Candidate plans from each of B states.

    Attributes:
      tokens: (B, P, H, m + n) normalised states and actions; each plan begins with its state.
      values: (B, P) J of each plan, in units of reward.
    """

    tokens: Leaf
    values: Leaf

    def best(self) -> Float[Array, "batch horizon token"]:
        """For each state, the plan of the highest value."""
        index = self.values.argmax(1)[:, None, None, None]
        return jnp.take_along_axis(self.tokens, index, 1)[:, 0]


def plan(
    model: JointDiffuser,
    value: PlanValue,
    config: PlanningConfig,
    present: Float[Array, "batch state"],
    keys: Key[Array, " batch"],
) -> Candidates:
    """Sample candidate plans from the present states.

    Args:
      model: the diffuser.
      value: J.
      config: how many plans, and how they are guided.
      present: the present states, normalised.
      keys: (batch,).
    """
    batch, size = present.shape
    horizon, token = model.config.horizon, model.scales.token_size
    count = batch * config.plans
    begin = jnp.zeros((batch, horizon, token)).at[:, 0, :size].set(present)
    values = jnp.repeat(begin, config.plans, 0)
    known = jnp.broadcast_to(is_present_state(horizon, model.scales), values.shape)
    low, high = model.scales.bounds()
    tokens = sample(
        model.denoise,
        model.schedule,
        Sampler("ancestral", model.config.diffusion_steps, temperature=config.temperature),
        known=known,
        known_values=values,
        low=low,
        high=high,
        keys=jax.vmap(lambda key: jax.random.split(key, config.plans))(keys).reshape(-1),
        guide=climb(value, config, known, values),
    )
    worth = value(tokens, jnp.zeros(count, jnp.int32))
    return Candidates(
        tokens.reshape(batch, config.plans, horizon, token), worth.reshape(batch, config.plans)
    )


@functools.partial(jax.jit, static_argnames="config")
def _act(model: JointDiffuser, value: PlanValue, config: PlanningConfig, observations, keys):
    present = model.scales.states.normalize(observations)
    first = plan(model, value, config, present, keys).best()[:, 0]
    return model.scales.actions.unnormalize(first[:, present.shape[1] :])


@struct.dataclass
class GuidedActor:
    """Diffuser as a policy, of one seed; an `envs.simulator.Actor`.

    Attributes:
      model: the diffuser over states and actions.
      value: J.
      key: () for sampling its plans.
      bounds: of the actions.
      planning: how it plans.
    """

    model: JointDiffuser
    value: PlanValue
    key: Leaf
    bounds: Bounds = struct.field(pytree_node=False)
    planning: PlanningConfig = struct.field(pytree_node=False)

    @property
    def parameters(self) -> int:
        """The number of parameters of both networks."""
        return count_parameters((self.model.params, self.value.params))

    def start(self) -> "GuidedPlayer":
        """A player for episodes in lockstep, from time 0."""
        return GuidedPlayer(self)


class GuidedPlayer:
    """Plans anew at every step, and takes the first action of the best plan."""

    def __init__(self, actor: GuidedActor):
        self._actor = actor
        # Placed on the devices once, not at every step.
        self._placed = devices.copied((actor.model, actor.value))

    def __call__(self, observations: np.ndarray, time: int, _rewards: np.ndarray) -> np.ndarray:
        """Actions (E, n) for observations (E, m) at time step `time`, which counts from 0."""
        episodes, actor = len(observations), self._actor
        rows = np.resize(np.arange(episodes), devices.padded(episodes))
        present = np.asarray(observations, np.float32)[rows]
        keys = jax.random.split(jax.random.fold_in(actor.key, time), episodes)[rows]
        actions = _act(*self._placed, actor.planning, *devices.spread((present, keys)))
        low, high = (np.array(end, np.float32) for end in (actor.bounds.low, actor.bounds.high))
        return np.clip(devices.fetch(actions)[:episodes], low[None], high[None])
