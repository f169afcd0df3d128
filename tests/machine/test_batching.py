"""Tests of `in_batches`: whatever the number of rows, each row's answer is its own."""

import jax
import numpy as np
import pytest

from tskd_jax.machine.batching import in_batches

SIZE = 8


@pytest.mark.parametrize("rows", [0, 1, 2, 5, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE, 3 * SIZE + 2])
def test_any_number_of_rows(rows):
    x = np.arange(2.0 * rows, dtype=np.float32).reshape(rows, 2)
    y = np.arange(rows, dtype=np.int32)
    shapes = []

    def function(x, y):
        shapes.append(x.shape)
        assert len(x) == len(y)
        return {"sum": x.sum(1), "both": (x + y[:, None], y)}

    actual = in_batches(function, x, y, size=SIZE)
    np.testing.assert_array_equal(actual["sum"], x.sum(1))
    np.testing.assert_array_equal(actual["both"][0], x + y[:, None])
    np.testing.assert_array_equal(actual["both"][1], y)
    # Batches of one shape, a power of two no larger than asked for, and none to spare.
    ((batch, width),) = set(shapes)
    assert width == 2
    assert batch in (1, 2, 4, 8)
    assert len(shapes) == max(1, -(-rows // SIZE))


def test_no_rows_keep_shape_and_type():
    actual = in_batches(
        jax.jit(lambda x: (x.sum(1), x > 0)), np.zeros((0, 3), np.float32), size=SIZE
    )
    assert actual[0].shape == (0,)
    assert actual[1].shape == (0, 3)
    assert actual[0].dtype == np.float32
    assert actual[1].dtype == bool


def test_outputs_are_on_the_host():
    actual = in_batches(jax.jit(lambda x: x + 1), np.zeros((5, 1), np.float32), size=2)
    assert type(actual) is np.ndarray
    actual[0] = 7  # and the caller's own


def test_few_rows_of_many_sizes_share_compilations():
    shapes = set()
    for rows in range(1, 65):
        in_batches(lambda x: shapes.add(x.shape) or x, np.zeros((rows, 1)))
    assert len(shapes) == 7  # 1, 2, 4, …, 64


def test_batches_become_smaller_where_memory_runs_out():
    seen = []

    def function(x):
        seen.append(len(x))
        if len(x) > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return x + 1

    x = np.arange(7.0)[:, None]
    np.testing.assert_array_equal(in_batches(function, x, size=8), x + 1)
    assert seen == [8, 4, 2, 2, 2, 2]


def test_not_even_one_row():
    def function(x):
        raise MemoryError

    with pytest.raises(MemoryError):
        in_batches(function, np.zeros((3, 1)))


def test_other_errors_are_not_tried_again():
    seen = []

    def function(x):
        seen.append(len(x))
        raise ValueError("RESOURCES")

    with pytest.raises(ValueError, match="RESOURCES"):
        in_batches(function, np.zeros((3, 1)))
    assert len(seen) == 1
