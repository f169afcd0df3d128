"""How long an update takes, of trainings that wait for a known time."""

import time

import jax
import jax.numpy as jnp
from small_trainings import descent

from tskd_jax.training.timing import UPDATES, seconds_of_update

WAIT = 0.05


def test_an_update_that_waits():
    calls = []

    def wait(x):
        calls.append(float(x))
        time.sleep(WAIT)
        return x

    def loss(p):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        # The gradient is not the callback's: what is measured is that it is waited for.
        return p + jax.pure_callback(
            wait, shape, jax.lax.stop_gradient(p), vmap_method="sequential"
        )

    seconds = seconds_of_update(descent(1000, loss=loss))
    assert WAIT <= seconds < 4 * WAIT
    # Updates follow one another, as in a training: 0, -1, -2 …
    assert calls == [-float(step) for step in range(1 + UPDATES)]
