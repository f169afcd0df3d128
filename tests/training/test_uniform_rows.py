"""Batches: rows that belong together, of the rows that are asked for."""

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.training.batching import uniform_rows


def test_uniform_rows_keeps_the_leaves_together():
    rows = uniform_rows((jnp.arange(10), 2 * jnp.arange(10)), jax.random.key(0), 5000)
    np.testing.assert_array_equal(rows[1], 2 * rows[0])
    # 500 of each, give or take √(5000 · 0.1 · 0.9) = 21.
    assert (np.abs(np.bincount(rows[0], minlength=10) - 500) < 106).all()


def test_a_batch_of_padded_rows_is_the_batch_of_the_rows_alone():
    key, x = jax.random.key(3), jnp.arange(50)
    alone = uniform_rows(x[:37], key, 200)
    np.testing.assert_array_equal(uniform_rows(x, key, 200, jnp.int32(37)), alone)
    chosen = jnp.arange(50)[::-1]
    np.testing.assert_array_equal(uniform_rows(x, key, 200, jnp.int32(37), chosen), 49 - alone)


def test_without_a_count_all_of_the_chosen_rows_are_drawn_from():
    chosen = jnp.array([3, 5, 7])
    drawn = uniform_rows(jnp.arange(10), jax.random.key(0), 100, rows=chosen)
    assert set(np.asarray(drawn).tolist()) == {3, 5, 7}
