"""Which device is there, in which precision, and how the devices are shared out."""

import os
import subprocess
import sys

import jax
import pytest
from tiny import ROOT

from tskd_jax.errors import DeviceError
from tskd_jax.machine import devices

# What a command does first: an error is one line, and otherwise it says what it computes in.
CHECK = """
from tskd_jax.errors import DeviceError
from tskd_jax.machine import devices
try:
    devices.check()
except DeviceError as error:
    raise SystemExit(str(error))
import jax.numpy as jnp
print(jnp.ones(1, float).dtype, jnp.arange(3).dtype)
"""


def check(**variables: str) -> subprocess.CompletedProcess:
    """`devices.check()` in a process with these environment variables."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | variables
    return subprocess.run(
        [sys.executable, "-c", CHECK], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("platforms", ["", "cpu"])
def test_a_platform_that_is_there_is_used(platforms):
    done = check(JAX_PLATFORMS=platforms)
    assert (done.returncode, done.stdout) == (0, "float32 int32\n"), done.stderr


# The last is missing on every machine.
@pytest.mark.parametrize("platforms", ["cuda", "tpu", "rocm", "nonsense"])
def test_a_platform_that_is_missing_is_named_in_one_line(platforms):
    if platforms != "nonsense" and jax.default_backend() != "cpu":
        pytest.skip("this machine may have it")
    done = check(JAX_PLATFORMS=platforms)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"JAX_PLATFORMS={platforms}: JAX finds no such device")
    assert "unset JAX_PLATFORMS" in line
    assert "JAX_PLATFORMS=cpu" in line


def test_no_device_at_all_is_an_error_with_a_way_out(monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize\nbackend 'cuda' (set JAX_PLATFORMS='' to …)")

    monkeypatch.setattr(jax, "devices", fail)
    previous = jax.config.jax_platforms
    jax.config.update("jax_platforms", None)
    try:
        with pytest.raises(DeviceError) as caught:
            devices.check()
    finally:
        jax.config.update("jax_platforms", previous)
    assert str(caught.value) == (
        "JAX finds no device that it can use (Unable to initialize backend 'cuda'); "
        "set JAX_PLATFORMS=cpu to compute on the CPU alone"
    )


def test_double_precision_of_the_shell_is_switched_off():
    done = check(JAX_ENABLE_X64="1")
    assert (done.returncode, done.stdout) == (0, "float32 int32\n"), done.stderr


@pytest.mark.parametrize(
    ("count", "members", "rows", "shape"),
    [
        (1, (5,), 256, (1, 1, 1, 1)),
        (1, (5, 7), 256, (1, 1, 1, 1)),
        (8, (), 32, (1, 1, 8, 1)),
        (8, (5,), 256, (1, 1, 8, 1)),
        (8, (2,), 256, (2, 1, 4, 1)),
        (8, (16,), 256, (8, 1, 1, 1)),
        (8, (), 12, (1, 1, 4, 2)),
        (8, (6,), 3, (2, 1, 1, 4)),
        (64, (), 32, (1, 1, 32, 2)),
        (8, (), None, (1, 1, 8, 1)),
        (8, (4, 2), 256, (4, 2, 1, 1)),
        (8, (1, 2), 256, (1, 2, 4, 1)),
        (8, (3, 2), 256, (1, 2, 4, 1)),
        (8, (2, 7), 256, (2, 1, 4, 1)),
    ],
)
def test_what_does_not_divide_is_repeated(count, members, rows, shape):
    assert devices.shape_of(count, members, rows) == shape


def test_rows_are_padded_to_as_many_on_every_device(monkeypatch):
    for count, rows in ((1, 21), (8, 24), (64, 64)):
        monkeypatch.setattr(jax, "device_count", lambda count=count: count)
        assert devices.padded(21) == rows
