"""One plan of DDR-I (Algorithm 1, lines 6 to 13): sample a window and read it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from tskd_jax.diffusion import guided, sample
from tskd_jax.machine.types import Leaf
from tskd_jax.teacher.diffuser import Diffuser, make_sampler, target_condition
from tskd_jax.teacher.trajectory_generator import SamplingConfig, token_parts, tokens


@struct.dataclass
class Plan:
    """The whole window that DDR-I imagined, normalised.

    Attributes:
      states: (B, H, m); the known ones are at positions 0 … L - 1.
      rewards: (B, H, 1); zeros for a model without a reward channel.
    """

    states: Leaf
    rewards: Leaf

    def next_steps(self, length: Array, count: int) -> tuple[Array, Array]:
        """The first steps after the history (Algorithm 1, lines 11 and 12).

        Args:
          length: L, the length of the history that the plan was made with.
          count: how many steps.

        Returns:
          (rewards (B, count, 1) of positions L-1 …, next states (B, count, m) of positions L …).
        """
        rewards = jax.lax.dynamic_slice_in_dim(self.rewards, length - 1, count, 1)
        return rewards, jax.lax.dynamic_slice_in_dim(self.states, length, count, 1)

    def shifted(self, by: Array) -> "Plan":
        """The plan as seen from a window that begins `by` steps later; repeats the last token."""
        horizon = self.states.shape[1]
        position = jnp.minimum(jnp.arange(horizon) + by, horizon - 1)
        return Plan(self.states[:, position], self.rewards[:, position])


def no_plan(model: Diffuser, batch: int) -> Plan:
    """A placeholder for the plan before the first one."""
    horizon, size = model.config.horizon, model.states.low.shape[-1]
    return Plan(jnp.zeros((batch, horizon, size)), jnp.zeros((batch, horizon, 1)))


class UnfinishedWindow(NamedTuple):
    """The window that a plan fills in, as tokens (B, H, D); arguments of `diffusion.sample`.

    Attributes:
      known: mask of the history, and of the noise level if tokens have one.
      known_values: the values of the known entries.
      low, high: the range of every token.
      condition: (B,) y, or (1,) if it is the same for all rows.
      encode: (states (B, H, m), rewards (B, H, 1)), normalised -> tokens.
      decode: coordinates of states (B, H, m) -> states, normalised.
    """

    known: Bool[Array, "batch horizon dim"]
    known_values: Float[Array, "batch horizon dim"]
    low: Float[Array, "batch horizon dim"]
    high: Float[Array, "batch horizon dim"]
    condition: Float[Array, " rows"]
    encode: Callable[[Array, Array], Array]
    decode: Callable[[Array], Array]


def unfinished_window(
    model: Diffuser,
    sampling: SamplingConfig,
    history: Float[Array, "batch context state"],
    length: Int[Array, ""],
) -> UnfinishedWindow:
    """The known part of a plan, and the range of the rest; arguments as for `plan`."""
    config = model.config
    batch, context, size = history.shape
    current = jnp.full(batch, length - 1)
    present = jax.lax.dynamic_index_in_dim(history, length - 1, 1, keepdims=False)
    padding = ((0, 0), (0, config.horizon - context), (0, 0))
    level = jnp.asarray(sampling.history_noise / max(config.history_noise, 1e-8))[None, None, None]

    def encode(states, rewards):
        return tokens(config, model.coordinates, states, rewards, level, present, current)

    values = encode(jnp.pad(history, padding), jnp.zeros((batch, config.horizon, 1)))
    is_state, _, is_level = token_parts(config, size)
    position = jnp.arange(config.horizon)[None, :, None]
    low, high = model.coordinates.bounds(config.horizon, current)
    # The noise level is known everywhere: its bounds are those of the reward, and never matter.
    others = ((0, 0), (0, 0), (0, values.shape[-1] - size))
    return UnfinishedWindow(
        known=jnp.broadcast_to(is_level | (is_state & (position < length)), values.shape),
        known_values=values,
        low=jnp.pad(low, others, constant_values=model.rewards.low[0]),
        high=jnp.pad(high, others, constant_values=model.rewards.high[0]),
        condition=target_condition(model, present, sampling),
        encode=encode,
        decode=lambda states: model.coordinates.decode(states, present, current),
    )


def plan(
    model: Diffuser,
    sampling: SamplingConfig,
    history: Float[Array, "batch context state"],
    length: Int[Array, ""],
    keys: Key[Array, " batch"],
    earlier: Plan | None = None,
) -> Plan:
    """Make one plan for each row of a batch (Algorithm 1, lines 6 to 13).

    Args:
      model: DDR-I.
      sampling: `config.sampling`.
      history: the last states, normalised, at positions 0 … length - 1; the rest is ignored.
      length: L = min(C, t + 1), the same for all.
      keys: (batch,).
      earlier: the previous plan, as seen from this window; sampling starts from it, noised to
        `sampling.warm_start` of the K steps. None: it starts from noise.
    """
    config, size = model.config, history.shape[-1]
    w = unfinished_window(model, sampling, history, length)
    sampler, guess = make_sampler(sampling), None
    if earlier is not None:
        sampler = sampler.warm(sampling.warm_start)
        guess = w.encode(earlier.states, earlier.rewards)
    x = sample(
        guided(model.noise, model.params, w.condition, sampling.guidance),
        model.schedule,
        sampler,
        known=w.known,
        known_values=w.known_values,
        low=w.low,
        high=w.high,
        keys=keys,
        earlier=guess,
    )
    has_rewards = config.reward_channel
    rewards = x[:, :, size : size + 1] if has_rewards else jnp.zeros((*x.shape[:2], 1))
    return Plan(states=w.decode(x[:, :, :size]), rewards=rewards)


def replan(
    model: Diffuser,
    sampling: SamplingConfig,
    history: Float[Array, "batch context state"],
    length: Int[Array, ""],
    keys: Key[Array, " batch"],
    earlier: Plan,
    time: Int[Array, ""],
    taken: int,
) -> Plan:
    """Call `plan`, starting from the previous plan if `sampling.warm_start` is above 0.

    Args:
      model, sampling, history, length, keys: as for `plan`.
      earlier: the previous plan, as it was made. At time 0 there is none: its content is ignored.
      time: t, the time step of the present.
      taken: time steps since the previous plan.
    """
    if not sampling.warm_start:
        return plan(model, sampling, history, length, keys)
    # An episode's first C windows all begin at its start; later ones move along.
    grown = length - jnp.minimum(model.config.context, time + 1 - taken)
    return jax.lax.cond(
        time == 0,
        lambda: plan(model, sampling, history, length, keys),
        lambda: plan(model, sampling, history, length, keys, earlier.shifted(taken - grown)),
    )
