"""How long a training takes on this machine, measured before it starts."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.training.training import Training, make_update

UPDATES = 3


def seconds_of_update(training: Training) -> float:
    """Seconds of one compiled update of one member: the median of three, after a warm-up."""
    key = training.keys.ravel()[0]
    data = jax.device_put(training.seen_by((0,) * training.keys.ndim))
    params = training.init(key)
    update = jax.jit(make_update(training))
    state = (params, params, training.optimizer.init(params))
    spent = []
    for step in range(1 + UPDATES):
        begin = time.perf_counter()
        *state, _, _ = update(*state, key, jnp.int32(step), data)
        jax.block_until_ready(state)
        spent.append(time.perf_counter() - begin)
    return float(np.median(spent[1:]))
