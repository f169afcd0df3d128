"""Trainings that are over in a moment, and what is compared of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tskd_jax.training import loop
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.training import Ema, Training, adam

WEIGHTS = np.array([1.5, -2.0, 0.5], np.float32)
KEY = jax.random.key(0)[None]  # of one seed


def regression(keys=KEY, steps=40, **options) -> Training:
    """A linear regression on 256 rows, in batches of 16; the initial weights are the key's."""
    x = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)

    def loss(params, _ema, batch, _key):
        x, y = batch
        return jnp.square(x @ params["w"] + params["b"] - y).mean()

    return Training(
        name="regression",
        init=lambda key: {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())},
        loss=loss,
        draw=lambda data, key: uniform_rows(data, key, 16),
        data=(x, x @ WEIGHTS + 0.7),
        optimizer=adam(0.05, "constant", steps),
        steps=steps,
        keys=keys,
        **options,
    )


def descent(steps, *, loss=lambda p: p, start=0.0, rate=1.0, name="line", **options) -> Training:
    """One number from 0, slope 1, plain gradient steps of 1: after update t it is -t."""
    return Training(
        name=name,
        init=lambda key: jnp.float32(start),
        loss=lambda p, _ema, _batch, _key: loss(p),
        draw=lambda data, key: data,
        data=jnp.zeros(1),
        optimizer=optax.sgd(rate),
        steps=steps,
        **{"keys": KEY} | options,
    )


def lines(keys, data, axes=0, steps=30, **options) -> Training:
    """Fits of a line, one for each seed, and one for each member where the keys have two axes.

    Args:
      keys: (seeds,) or (seeds, members).
      data: ((x (N, 3), y (N,)), number of rows), the seeds as leading axis where `axes` is 0.
      axes: of `data`.
      steps: updates.
      **options: more fields of the training.
    """

    def draw(data, key):
        columns, count = data
        return uniform_rows(columns, key, 8, count)

    return Training(
        name="line",
        init=lambda key: {"w": jax.random.normal(key, (3,))},
        loss=lambda params, _ema, batch, _key: jnp.square(batch[0] @ params["w"] - batch[1]).mean(),
        draw=draw,
        data=data,
        optimizer=optax.adam(1e-2),
        steps=steps,
        keys=keys,
        data_axes=axes,
        **options,
    )


def datasets_of_three_sizes() -> list[tuple[np.ndarray, np.ndarray]]:
    """(x, y) of 20, 64 and 33 rows."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(rows, 3)).astype(np.float32) for rows in (20, 64, 33)]
    return [(x, x @ np.array([1.0, -2.0, 0.5], np.float32)) for x in inputs]


def assert_same_bits(left, right) -> None:
    """Every leaf of two pytrees is the same; keys by their bits."""

    def plain(leaf):
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if is_key else leaf)

    for one, other in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(plain(one), plain(other))


def chunks_of_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """`save` and `on_progress` see every update."""
    monkeypatch.setattr(loop, "CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(loop, "MIN_CHUNK", 1)


AVERAGED = Ema(0.9, 2, 3)
