"""A mean over rows in pieces: the value and gradient of the mean over all rows at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.machine.platform import lowering_for
from tskd_jax.training.pieces import _pieces, mean_over_pieces


def squared_error(params, shared, rows):
    x, y = rows
    errors = jnp.tanh(x @ params["w"]) - y
    return shared * jnp.square(errors).mean(), errors.mean()


def example(batch):
    x, y, w = (
        jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(batch, 3), batch, 3])
    )
    return {"w": w}, jnp.float32(2.0), (x, y)


@pytest.mark.parametrize("batch", [5, 64, 96])
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_it_is_the_mean_over_all_rows(batch, platform):
    params, shared, rows = example(batch)

    def differentiated(loss):
        return jax.value_and_grad(lambda params: 3 * loss(params)[0])(params)

    with lowering_for(platform):
        found = differentiated(lambda p: mean_over_pieces(squared_error, p, shared, rows))
        _, error = mean_over_pieces(squared_error, params, shared, rows)
    expected = differentiated(lambda p: squared_error(p, shared, rows))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), found, expected)
    np.testing.assert_allclose(error, squared_error(params, shared, rows)[1], rtol=2e-5)


def test_each_of_a_mapped_axis_has_its_own():
    params, _, rows = example(64)
    many = {"w": jnp.stack([params["w"], -params["w"]])}
    shared = jnp.array([1.0, 2.0])

    def loss(params, shared):
        return mean_over_pieces(squared_error, params, shared, rows)[0]

    found = jax.vmap(jax.grad(loss))(many, shared)["w"]
    for index in range(2):
        alone = jax.grad(loss)({"w": many["w"][index]}, shared[index])["w"]
        np.testing.assert_allclose(found[index], alone, rtol=2e-5)


def test_neither_rows_nor_what_they_share_have_a_gradient():
    params, shared, rows = example(64)
    found = jax.grad(
        lambda shared, rows: mean_over_pieces(squared_error, params, shared, rows)[0], (0, 1)
    )(shared, rows)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(("batch", "pieces"), [(256, 16), (8, 1), (100, 5), (127, 1)])
def test_pieces_are_of_equal_size(batch, pieces):
    assert _pieces(batch) == pieces
