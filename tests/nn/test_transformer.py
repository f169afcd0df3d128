"""Tests of the transformer: who sees whom, and decoding one token after another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.nn.mlp import count_parameters
from tskd_jax.nn.transformer import Transformer, empty_cache

LAYERS, HEADS, WIDTH, TOKENS = 2, 2, 8, 6
NETWORK = Transformer(LAYERS, HEADS)
ALL = jnp.ones((1, TOKENS), bool)


@pytest.fixture(scope="module")
def tokens():
    return jax.random.normal(jax.random.key(0), (3, TOKENS, WIDTH))


@pytest.fixture(scope="module")
def params(tokens):
    params = NETWORK.init(jax.random.key(1), tokens, ALL)
    # Larger than fresh weights, so that attention is far from even.
    return jax.tree.map(lambda leaf: 10 * leaf + 0.1, params)


def outputs(params, tokens, visible=ALL):
    return NETWORK.apply(params, tokens, visible)[0]


def test_later_tokens_change_nothing(params, tokens):
    before = outputs(params, tokens)
    for place in range(TOKENS):
        after = outputs(params, tokens.at[:, place].add(1.0))
        changed = np.abs(after - before).max((0, 2)) > 1e-6
        assert changed.tolist() == [False] * place + [True] * (TOKENS - place)


def test_padding_changes_nothing(params, tokens):
    visible = jnp.array([[False, False, True, True, True, True]])
    before = outputs(params, tokens, visible)
    after = outputs(params, tokens.at[:, :2].set(7.0), visible)
    np.testing.assert_array_equal(after[:, 2:], before[:, 2:])
    # As if it were not there.
    alone = outputs(params, tokens[:, 2:], ALL[:, 2:])
    np.testing.assert_allclose(alone, before[:, 2:], rtol=1e-4, atol=1e-4)
    assert np.isfinite(before).all()


def test_padding_may_differ_between_rows(params, tokens):
    visible = jnp.arange(TOKENS)[None] >= jnp.array([[0], [1], [4]])
    together = outputs(params, tokens, visible)
    for row, first in enumerate((0, 1, 4)):
        alone = outputs(params, tokens[row : row + 1, first:], ALL[:, first:])
        np.testing.assert_allclose(together[row, first:], alone[0], rtol=1e-4, atol=1e-4)


def test_padding_has_no_gradient(params, tokens):
    visible = jnp.array([[False, False, True, True, True, True]])

    def loss(tokens):
        return jnp.square(outputs(params, tokens, visible)[:, 2:]).sum()

    gradient = jax.grad(loss)(tokens)
    assert (gradient[:, :2] == 0).all()
    assert (jnp.abs(gradient[:, 2:]).max((0, 2)) > 0).all()


@pytest.mark.parametrize("first", [1, 4])
def test_decoding_with_a_cache_is_the_whole_at_once(params, tokens, first):
    """A first part at once and the rest token by token, in a cache with places to spare."""
    visible = jnp.arange(TOKENS + 3)[None] != 2  # one place is hidden in both
    cache = empty_cache(LAYERS, len(tokens), TOKENS + 3, HEADS, WIDTH)
    # What stands behind the last token does not count.
    cache = jax.tree.map(lambda leaf: leaf + 5.0, cache)
    found, cache = NETWORK.apply(params, tokens[:, :first], visible, cache)
    parts, extend = [found], jax.jit(NETWORK.apply)
    for place in range(first, TOKENS):
        found, cache = extend(params, tokens[:, place : place + 1], visible, cache, place)
        parts.append(found)
    whole = outputs(params, tokens, visible[:, :TOKENS])
    np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, rtol=1e-4, atol=1e-4)


def test_dropout_is_for_training_alone(tokens):
    network = Transformer(LAYERS, HEADS, dropout=0.5)
    params = network.init(jax.random.key(1), tokens, ALL)

    def trained(seed):
        keys = {"dropout": jax.random.key(seed)}
        return network.apply(params, tokens, ALL, train=True, rngs=keys)[0]

    np.testing.assert_array_equal(trained(0), trained(0))
    assert np.abs(trained(0) - trained(1)).max() > 0.1
    np.testing.assert_array_equal(network.apply(params, tokens, ALL)[0], outputs(params, tokens))


def test_parameters_of_a_block_by_hand():
    params = Transformer(3, 1).init(jax.random.key(0), jnp.zeros((1, 2, 128)), ALL[:, :2])
    attention = 128 * 3 * 128 + 3 * 128 + 128 * 128 + 128
    hidden = 128 * 512 + 512 + 512 * 128 + 128
    assert count_parameters(params) == 3 * (attention + hidden + 4 * 128) + 2 * 128
