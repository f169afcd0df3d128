"""What eight devices send one another in an update: by the compiler's text, and counted by hand."""

import os
import subprocess
import sys

import numpy as np
import pytest
from tiny import ROOT

DEVICES = 8
# Hopper's student of 256 and 256: (11 + 1) 256 + (256 + 1) 256 + (256 + 1) 3.
PARAMETERS = 69_635
SENT = """
import jax, numpy as np, optax
from tskd_jax.machine import devices, hlo
from tskd_jax.nn.mlp import MLP
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.chunk import chunk_of
from tskd_jax.training.training import Training

network, data = MLP((256, 256), 3), np.ones((64, 11), np.float32)
chunk = chunk_of(Training(
    name="student",
    init=lambda key: network.init(key, data[:1]),
    loss=lambda params, _ema, batch, _key: (network.apply(params, batch) ** 2).mean(),
    draw=lambda data, key: uniform_rows(data, key, 32),
    data=data,
    optimizer=optax.adam(1e-3),
    steps=1,
    keys=jax.random.split(jax.random.key(0), (1, 1)),
))
state, data = chunk.shapes()
with devices.on(chunk.mesh):
    lowered = chunk.program(state).trace(state, data, np.int32(1), np.float32(0)).lower()
    print(hlo.read(lowered.compile().as_text()).of_loops().sent())
"""


def sent_around_a_ring(numbers: int) -> int:
    """Bytes that a device sends until each has the sum of all devices' numbers.

    Each device has a vector in as many pieces as there are devices. Piece by piece, it adds what
    comes from its left to its own and sends that on to its right; then the sums go round.
    """
    pieces = np.ones((DEVICES, DEVICES, -(-numbers // DEVICES)), np.float32)
    sent = 0
    for step in range(2 * (DEVICES - 1)):
        which = [(device - step) % DEVICES for device in range(DEVICES)]
        going = [pieces[device, piece].copy() for device, piece in enumerate(which)]
        for device, piece in enumerate(which):
            right = (device + 1) % DEVICES
            pieces[right, piece] = going[device] + (step < DEVICES - 1) * pieces[right, piece]
        sent += going[0].nbytes
    assert (pieces == DEVICES).all()
    return sent


def test_an_update_sends_what_a_ring_does_by_hand():
    flags = os.environ.get("XLA_FLAGS", "")
    environment = os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", SENT], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == pytest.approx(sent_around_a_ring(PARAMETERS), rel=0.1)
