"""Tests of the search for plans, in a world of three states in which greed is punished.

from state 0:  action 0 pays 1 and ends in state 2, where nothing pays;
               action 1 pays nothing and leads to state 1, where action 2 pays 10.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.models.beam_search import SearchConfig, Worth, draw, search

BINS, SIZE = 3, 4  # tokens 0, 1, 2; a state, an action, a reward, a value
REWARD = jnp.array([[1, 0, 0], [0, 0, 2], [0, 0, 0]])  # tokens, worth 0, 1 and 10
FOLLOWS = jnp.array([[2, 1, 2], [1, 1, 2], [2, 2, 2]])
BLIND, TELLING = jnp.zeros((3, 3), int), jnp.array([[0, 2, 0], [0, 0, 0], [0, 0, 0]])
# Wide enough that not all plans kept begin with what pays at once.
CONFIG = SearchConfig(horizon=2, beam_width=20, expand=2, context=2, cut_actions=0.0)
WORTH = Worth(jnp.array([0.0, 1.0, 10.0]), jnp.array([0.0, 1.0, 10.0]), 0.5)


class World(NamedTuple):
    """Knows each next token for certain, but for actions, which may be any; remembers all tokens.

    Attributes:
      value: (3, 3) the token of the value behind each state and action.
      follows: (3, 3) the state behind each state and action.
    """

    value: jax.Array = BLIND
    follows: jax.Array = FOLLOWS

    def begin(self, tokens, last):
        memory = jnp.pad(tokens, ((0, 0), (0, CONFIG.context * SIZE - tokens.shape[1])))
        return self.logits(memory, last), memory

    def extend(self, token, memory, place):
        memory = memory.at[:, place].set(token)
        return self.logits(memory, place), memory

    def logits(self, tokens, place):
        dimension = place % SIZE
        at = [
            jax.lax.dynamic_index_in_dim(tokens, place - back, 1, keepdims=False)
            for back in range(4)
        ]
        table = jnp.stack(
            [
                jnp.zeros_like(at[0]),
                REWARD[at[1], at[0]],
                self.value[at[2], at[1]],
                self.follows[at[3], at[2]],
            ]
        )
        certain = 50.0 * jax.nn.one_hot(table[dimension], BINS + 1)
        any_action = jnp.array([0.0, 0.0, 0.0, -50.0])[None]
        return jnp.where(dimension == 0, any_action, certain)


def plan(world=World(), past=0, state=0, key=0, **fields):  # noqa: B008
    config = replace(CONFIG, **fields)
    seen = jnp.full((config.context, SIZE), 2).at[past, 0].set(state)
    find = jax.jit(lambda key: search(world, config, WORTH, 1, seen, jnp.int32(past), key))
    found = find(jax.random.key(key))
    return found.actions[:, 0].tolist(), float(found.score)


def test_greed_fails():
    actions, score = plan(horizon=1)
    assert actions == [0]
    assert score == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("past", [0, 1])
def test_the_best_plan_is_found(past):
    actions, score = plan(past=past)
    assert actions == [1, 2]
    assert score == pytest.approx(0.5 * 10, abs=1e-4)


def test_the_value_behind_a_plan_counts():
    actions, score = plan(World(TELLING), horizon=1)
    assert actions == [1]
    assert score == pytest.approx(0.5 * 10, abs=1e-4)


def test_a_plan_is_longer_than_what_the_model_sees():
    """Five steps in a context of two transitions: what is forgotten is not needed any more."""
    returning = World(follows=jnp.array([[2, 1, 2], [1, 1, 0], [2, 2, 2]]))
    actions, score = plan(returning, horizon=5, beam_width=100)
    # To state 1 and back twice; the last step is too late to be paid 10 for.
    assert actions == [1, 2, 1, 2, 0]
    assert score == pytest.approx(0.5 * 10 + 0.5**3 * 10 + 0.5**4 * 1, abs=1e-3)


def test_a_narrow_search_keeps_what_pays_at_once():
    # One plan is kept: the one that pays first. The best one is given up for it.
    actions, score = plan(beam_width=1, expand=30)
    assert actions[0] == 0
    assert score == pytest.approx(1, abs=1e-4)


def test_equal_keys_give_equal_plans():
    assert plan(key=3) == plan(key=3)


def drawn(top_k: int, cut: float) -> set[int]:
    logits = jnp.log(jnp.tile(jnp.array([[0.3, 0.1, 0.4, 0.2]]), (300, 1)))
    return set(np.asarray(draw(jax.random.key(0), logits, top_k, cut)).tolist())


@pytest.mark.parametrize(
    ("top_k", "cut", "tokens"),
    [
        (0, 0.0, {0, 1, 2, 3}),
        (1, 0.0, {2}),
        (2, 0.0, {0, 2}),
        # The two unlikeliest have 0.3 together, the three 0.6.
        (0, 0.2, {0, 2, 3}),
        (0, 0.5, {0, 2}),
        (0, 1.0, {2}),
        (3, 0.5, {0, 2}),
    ],
)
def test_what_may_be_drawn(top_k, cut, tokens):
    assert drawn(top_k, cut) == tokens
