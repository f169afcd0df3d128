"""DDR-I, the trajectory generator: diffuses (state, reward) tokens (sections 4.1 and 4.2)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import window
from tskd_jax.diffusion import diffusion_loss, guided, sample
from tskd_jax.teacher import diffuser
from tskd_jax.teacher.diffuser import Diffuser, make_sampler, target_condition
from tskd_jax.training import Hooks
from tskd_jax.types import Config


def create(config: Config, trajectories: Trajectories) -> Diffuser:
    """An untrained DDR-I; `config` is `config.trajectory_generator`."""
    return diffuser.create(config, trajectories, lambda m: m + 1)


def train(
    model: Diffuser, trajectories: Trajectories, key: jax.Array, hooks: Hooks
) -> tuple[Diffuser, dict[str, float]]:
    """Fit DDR-I to all windows of the dataset (Equation 6).

    The present state s_t and up to C - 1 states before it are given. With `history_noise` they are
    blurred by noise whose deviation is drawn per window from U(0, history_noise): what imagination
    is given later is its own output, which is never quite clean.
    """
    config = model.config

    def loss(params, batch, key):
        transitions, tape = batch
        noise_key, level_key, loss_key = jax.random.split(key, 3)
        w = window(tape, transitions, config.horizon, config.context)
        x0 = jnp.concatenate([w.states, w.rewards], -1)
        position = jnp.arange(config.horizon)[None]
        is_state = jnp.arange(x0.shape[-1])[None, None] < w.states.shape[-1]
        given = (position <= w.current[:, None])[:, :, None] & is_state
        exists = jnp.where(is_state, w.state_exists[:, :, None], w.reward_exists[:, :, None])
        # What Algorithm 1 reads off a plan: this step's reward and the next state.
        is_answer = jnp.where(is_state, 1, 0) + w.current[:, None, None] == position[:, :, None]
        weight = exists * jnp.where(is_answer, config.answer_weight, 1.0)
        given_values = x0
        if config.history_noise:
            level = jax.random.uniform(level_key, (x0.shape[0], 1, 1), maxval=config.history_noise)
            given_values += level * jax.random.normal(noise_key, x0.shape)
        return diffusion_loss(
            model.apply,
            params,
            model.schedule,
            x0,
            w.labels,
            given=given,
            given_values=given_values,
            weight=weight,
            drop_condition=config.drop_condition,
            key=loss_key,
        )

    tape = diffuser.tape_of(model, trajectories)
    rows = np.arange(trajectories.size)
    return diffuser.train("trajectory_generator", model, loss, tape, rows, key, hooks)


def plan(
    model: Diffuser,
    sampling: Config,
    history: Float[Array, "batch context state"],
    length: Int[Array, ""],
    keys: PRNGKeyArray,
) -> tuple[Float[Array, "batch stride 1"], Float[Array, "batch stride state"]]:
    """One pass of Algorithm 1, lines 6 to 13, for a batch.

    Args:
      model: DDR-I.
      sampling: `config.sampling`.
      history: the last states, normalised, at positions 0 … length - 1; the rest is ignored.
      length: L = min(C, t + 1), the same for all.
      keys: (batch,).

    Returns:
      (rewards of positions L-1 …, next states of positions L …), `stride` of each, normalised.
    """
    config = model.config
    batch, context, size = history.shape
    dim = size + 1
    given_values = jnp.zeros((batch, config.horizon, dim)).at[:, :context, :size].set(history)
    position = jnp.arange(config.horizon)[None, :, None]
    is_state = jnp.arange(dim)[None, None] < size
    given = jnp.broadcast_to((position < length) & is_state, given_values.shape)
    present = jax.lax.dynamic_index_in_dim(history, length - 1, 1, keepdims=False)
    y = target_condition(model, present, sampling)
    x = sample(
        guided(model.apply, model.params, y, sampling.guidance),
        model.schedule,
        make_sampler(sampling),
        given=given,
        given_values=given_values,
        low=jnp.concatenate([model.states.low, model.rewards.low]),
        high=jnp.concatenate([model.states.high, model.rewards.high]),
        keys=keys,
    )
    answer = jax.lax.dynamic_slice_in_dim(x, length - 1, sampling.stride + 1, 1)
    return answer[:, :-1, size:], answer[:, 1:, :size]
