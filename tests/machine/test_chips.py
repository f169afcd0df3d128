"""Chips that are not here: what XLA is told of them."""

import math

import pytest

from tskd_jax.errors import DeviceError
from tskd_jax.machine import aot
from tskd_jax.machine.chips import CHIPS


@pytest.mark.parametrize(
    ("chip", "devices", "topology"),
    [
        ("h100", 1, "1x1x1"),
        ("h100", 256, "1x1x256"),
        ("tpu-v5e", 1, "v5e:2x2"),
        ("tpu-v5e", 8, "v5e:2x4"),
        ("tpu-v5e", 256, "v5e:16x16"),
        ("tpu-v5p", 1, "v5p:2x2x1"),
        ("tpu-v5p", 8, "v5p:2x2x2"),
        ("tpu-v5p", 64, "v5p:4x4x4"),
        ("tpu-v6e", 5, "v6e:2x4"),
    ],
)
def test_the_smallest_slice_with_so_many_devices(chip, devices, topology):
    assert CHIPS[chip].topology(devices) == topology
    sides = topology.partition(":")[2] or topology
    assert math.prod(map(int, sides.split("x"))) >= devices


@pytest.mark.parametrize("chip", [chip for chip in CHIPS.values() if chip.gpu])
def test_a_gpu_in_xlas_words(chip):
    text = chip.description()
    assert f"device_memory_size: {chip.memory}" in text
    major, minor = divmod(chip.gpu["compute_capability"], 10)
    assert f"cuda_compute_capability {{ major: {major} minor: {minor} }}" in text
    # What a block may take at most is what a core has, less what the system keeps.
    assert chip.gpu["shared_memory_per_core"] - chip.gpu["shared_memory_per_block_optin"] == 1024


@pytest.mark.parametrize("chip", CHIPS.values(), ids=list(CHIPS))
def test_a_float32_is_no_faster_than_a_bfloat16(chip):
    assert chip.peak["float32"] <= chip.peak["bfloat16"]


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'tskd_jax[aot-cuda]'" in aot.missing(CHIPS["a100"])
    with pytest.raises(DeviceError, match="aot-tpu"):
        aot.devices_of(CHIPS["tpu-v5e"], 1)
