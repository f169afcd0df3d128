"""Beam search for a plan of high reward (Janner, Li and Levine 2021, Algorithm 1, as published).

A transition is a row of D tokens: m of the state, n of the action, the reward and the value of what
follows. In each step, every plan is continued with several actions sampled from the model. The
plans with the highest sum of rewards so far and value of what follows are kept.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tskd_jax.fields import COUNT, NOT_NEGATIVE, PROBABILITY, at_least, field


@dataclass(frozen=True)
class SearchConfig:
    """The fields of the search."""

    horizon: int = field(15, COUNT, "steps of a plan (as published)")
    beam_width: int = field(128, COUNT, "plans that are kept at each step (as published)")
    expand: int = field(2, COUNT, "actions drawn for each plan at each step (as published)")
    context: int = field(
        5, at_least(2), "time steps that the model sees, the present one among them (as published)"
    )
    replan_every: int = field(
        1, COUNT, "actions taken of a plan, at most its horizon (as published; hopper-medium: 5)"
    )
    top_k_states: int = field(
        1, NOT_NEGATIVE, "states' tokens are drawn from so many likeliest ones; 0: from all"
    )
    top_k_actions: int = field(0, NOT_NEGATIVE, "the same for actions (as published)")
    cut_actions: float = field(
        0.6, PROBABILITY, "share of the probability, of the unlikeliest actions, never drawn"
    )


@runtime_checkable
class TokenModel(Protocol):
    """A model that predicts tokens, independently for each row.

    Logits are (rows, bins + 1): the last one stands for the end of the episode.
    """

    def begin(
        self, tokens: Int[Array, "rows places"], last: Int[Array, ""]
    ) -> tuple[Float[Array, "rows tokens"], Any]:
        """(logits of the token after place `last`; a memory of the tokens up to `last`)."""
        ...

    def extend(
        self, token: Int[Array, " rows"], memory: Any, place: Int[Array, ""]
    ) -> tuple[Float[Array, "rows tokens"], Any]:
        """Add a token at `place`; (logits of the token after it; the extended memory)."""
        ...


class Worth(NamedTuple):
    """The worth of tokens.

    Attributes:
      rewards, values: (bins,) rewards and values that tokens stand for, raw units.
      discount: γ.
    """

    rewards: Array
    values: Array
    discount: float


class Plan(NamedTuple):
    """The best plan.

    Attributes:
      actions: (H, n) tokens.
      score: () sum of discounted rewards and of the value of what follows, raw units.
    """

    actions: Array
    score: Array


def draw(
    key: Key[Array, ""], logits: Float[Array, "rows tokens"], top_k: int = 0, cut: float = 0.0
) -> Int[Array, " rows"]:
    """Sample a token for each row, from the most likely ones.

    Args:
      key: random key.
      logits: of the tokens.
      top_k: sample from this many of the most likely tokens; 0: from all.
      cut: exclude the least likely tokens that together have less than this probability.
    """
    if top_k == 1:
        return logits.argmax(-1)
    allowed = jnp.ones(logits.shape, bool)
    if cut:
        probability = jax.nn.softmax(logits)
        rising = jnp.sort(probability, axis=-1)
        # Rounding of the sum must not exclude the most likely token.
        enough = (jnp.cumsum(rising, -1) >= cut).at[:, -1].set(True)
        least = jnp.take_along_axis(rising, enough.argmax(-1)[:, None], 1)
        allowed &= probability >= least
    if top_k:
        allowed &= logits >= jax.lax.top_k(logits, top_k)[0][:, -1:]
    return jax.random.categorical(key, jnp.where(allowed, logits, -jnp.inf))


def _draw_tokens(
    model: TokenModel, logits, memory, place, key, count: int, top_k: int, cut: float
) -> tuple[Array, Array, Any]:
    """Sample `count` tokens in turn, the first at `place`; (tokens, next logits, memory)."""

    def one(carry, index):
        logits, memory = carry
        token = draw(jax.random.fold_in(key, index), logits, top_k, cut)
        return model.extend(token, memory, place + index), token

    (logits, memory), tokens = jax.lax.scan(one, (logits, memory), jnp.arange(count))
    return tokens.T, logits, memory


def _expected(logits: Float[Array, "rows tokens"], worth: Float[Array, " bins"]) -> Array:
    """The mean worth over the tokens' distribution; the end of the episode is worth 0."""
    return jax.nn.softmax(logits)[:, :-1] @ worth


def search(
    model: TokenModel,
    config: SearchConfig,
    worth: Worth,
    state_size: int,
    seen: Int[Array, "context tokens"],
    past: Int[Array, ""],
    key: Key[Array, ""],
) -> Plan:
    """Search the best plan of one episode.

    Args:
      model: the token model.
      config: horizon, beam width and how to sample.
      worth: of the tokens of rewards and values.
      state_size: m.
      seen: (C, D) the last transitions. Of the present one, only the state is known; all tokens
        after it are ignored.
      past: L < C, the number of transitions before the present one, which is row L.
      key: random key.
    """
    context, size = seen.shape
    action_size, width = size - state_size - 2, config.beam_width

    def continue_plans(windows, past, key):
        """Add the next states; (windows, L, logits of the action's first token, memory)."""
        # Once the context is full, its first transition is dropped.
        windows = jnp.where(past == context - 1, jnp.roll(windows, -1, axis=1), windows)
        past = jnp.minimum(past + 1, context - 1)
        tokens = windows[:, :-1].reshape(width, -1)
        logits, memory = model.begin(tokens, past * size - 1)
        states, logits, memory = _draw_tokens(
            model, logits, memory, past * size, key, state_size, config.top_k_states, 0.0
        )
        present = jax.lax.dynamic_index_in_dim(windows, past, 1, keepdims=False)
        present = present.at[:, :state_size].set(states)
        windows = jax.lax.dynamic_update_index_in_dim(windows, present, past, 1)
        return windows, past, logits, memory

    def one_step(carry, time):
        windows, past, logits, memory, gained, plans = carry
        action_key, state_key = jax.random.split(jax.random.fold_in(key, time))
        # Repeat each plan `expand` times, copies next to each other.
        windows, logits, memory, gained, plans = jax.tree.map(
            lambda leaf: jnp.repeat(leaf, config.expand, 0),
            (windows, logits, memory, gained, plans),
        )
        place = past * size + state_size
        actions, logits, memory = _draw_tokens(
            *(model, logits, memory, place, action_key, action_size),
            *(config.top_k_actions, config.cut_actions),
        )
        gained += worth.discount**time * _expected(logits, worth.rewards)
        reward = logits.argmax(-1)
        logits, _ = model.extend(reward, memory, place + action_size)
        scores = gained + worth.discount ** (time + 1) * _expected(logits, worth.values)
        value = logits.argmax(-1)
        present = jax.lax.dynamic_index_in_dim(windows, past, 1, keepdims=False)
        present = jnp.concatenate(
            [present[:, :state_size], actions, reward[:, None], value[:, None]], 1
        )
        windows = jax.lax.dynamic_update_index_in_dim(windows, present, past, 1)
        plans = plans.at[:, time].set(actions)
        scores, best = jax.lax.top_k(scores, width)
        windows, gained, plans = windows[best], gained[best], plans[best]
        windows, past, logits, memory = jax.lax.cond(
            time < config.horizon - 1,
            lambda: continue_plans(windows, past, state_key),
            lambda: (windows, past, *carry[2:4]),  # the plans are complete
        )
        return (windows, past, logits, memory, gained, plans), scores

    tokens = seen.reshape(1, -1)[:, :-1]
    first = model.begin(tokens, past * size + state_size - 1)
    logits, memory = jax.tree.map(lambda leaf: jnp.repeat(leaf, width, 0), first)
    windows = jnp.repeat(seen[None], width, 0)
    plans = jnp.zeros((width, config.horizon, action_size), seen.dtype)
    carry = windows, past, logits, memory, jnp.zeros(width), plans
    (*_, plans), scores = jax.lax.scan(one_step, carry, jnp.arange(config.horizon))
    best = scores[-1].argmax()
    return Plan(plans[best], scores[-1][best])
