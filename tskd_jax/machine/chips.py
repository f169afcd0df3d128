"""Accelerators to compile for without having them: public specifications of each."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Chip:
    """An accelerator, as its manufacturer specifies it.

    Attributes:
      name: its name in commands.
      title: the manufacturer's name.
      kind: JAX's `device_kind`.
      platform: JAX's name of the platform: `gpu` or `tpu`.
      memory: bytes of memory per device.
      bandwidth: bytes per second between a device and its memory.
      peak: dtype -> operations per second of dense matrix products; float32 in XLA's default
        precision (TF32 on these GPUs, one pass of bfloat16 on TPUs).
      link: bytes per second that a device sends to others, over all links in one direction.
      clock: cycles per second.
      launch: seconds from one kernel to the next.
      latency: seconds before an all-reduce transfers anything.
      dimensions: number of dimensions of a TPU's torus; 0 for a GPU.
      gpu: further properties of a GPU, by XLA's names; empty for a TPU.
    """

    name: str
    title: str
    kind: str
    platform: str
    memory: int
    bandwidth: float
    peak: Mapping[str, float]
    link: float
    clock: float
    launch: float
    latency: float
    dimensions: int = 0
    gpu: Mapping[str, int] = field(default_factory=dict)

    def topology(self, devices: int) -> str:
        """JAX's name of the smallest slice with at least that many devices.

        A TPU slice has at least the four chips of one host, and a power of two of chips.
        """
        if not self.dimensions:
            return f"1x1x{devices}"
        sides = [2, 2] + [1] * (self.dimensions - 2)
        place = len(sides) - 1
        while math.prod(sides) < devices:
            sides[place] *= 2
            place = sides.index(min(sides))
        sides.sort(key=lambda side: (side == 1, side))  # such as 2x2x1 and 2x4
        return f"{self.name.removeprefix('tpu-')}:{'x'.join(map(str, sides))}"

    def description(self) -> str:
        """Describe the GPU in XLA's text format, for a compiler on a machine without one."""
        major, minor = divmod(self.gpu["compute_capability"], 10)
        known = {name: value for name, value in self.gpu.items() if name != "compute_capability"}
        lines = [f"cuda_compute_capability {{ major: {major} minor: {minor} }}"]
        lines += [f"{name}: {value}" for name, value in (_OF_EVERY_GPU | known).items()]
        lines += [
            f"memory_bandwidth: {self.bandwidth:.0f}",
            f"clock_rate_ghz: {self.clock / 1e9:g}",
            f"device_memory_size: {self.memory}",
        ]
        return (
            f"gpu_device_info {{ {' '.join(lines)} }}\n"
            'platform_name: "CUDA"\n'
            "dnn_version_info { major: 9 minor: 8 patch: 0 }\n"
            f'device_description_str: "{self.title}"\n'
        )


_OF_EVERY_GPU = {
    "threads_per_block_limit": 1024,
    "threads_per_warp": 32,
    "shared_memory_per_block": 49_152,
    "threads_per_core_limit": 2048,
    "registers_per_core_limit": 65_536,
    "registers_per_block_limit": 65_536,
    "block_dim_limit_x": 2**31 - 1,
    "block_dim_limit_y": 65_535,
    "block_dim_limit_z": 65_535,
}
# (peak, link, clock, gpu) of two GPU generations; see `Chip`.
_AMPERE = (
    {"float32": 156e12, "bfloat16": 312e12},
    300e9,
    1.41e9,
    {
        "compute_capability": 80,
        "core_count": 108,
        "fpus_per_core": 64,
        "shared_memory_per_core": 167_936,
        "shared_memory_per_block_optin": 166_912,
        "l2_cache_size": 40 << 20,
    },
)
_HOPPER = (
    {"float32": 494.7e12, "bfloat16": 989.4e12},
    450e9,
    1.98e9,
    {
        "compute_capability": 90,
        "core_count": 132,
        "fpus_per_core": 128,
        "shared_memory_per_core": 233_472,
        "shared_memory_per_block_optin": 232_448,
        "l2_cache_size": 50 << 20,
    },
)


def _gpu(name, title, memory, bandwidth, peak, link, clock, facts) -> Chip:
    return Chip(
        name, title, title, "gpu", memory, bandwidth, peak, link, clock, 3e-6, 15e-6, gpu=facts
    )


def _tpu(name, title, kind, memory, bandwidth, peak, link, clock, dimensions) -> Chip:
    peaks = dict.fromkeys(("float32", "bfloat16"), peak)
    return Chip(
        *(name, title, kind, "tpu", memory, bandwidth, peaks, link, clock, 1e-6, 30e-6, dimensions)
    )


# From NVIDIA's and Google's data sheets. A TPU's clock is its peak over its operations per cycle.
CHIPS = {
    chip.name: chip
    for chip in (
        _gpu("h100", "NVIDIA H100 80GB HBM3", 84_978_434_048, 3352.32e9, *_HOPPER),
        _gpu("h200", "NVIDIA H200", 150_110_011_392, 4800e9, *_HOPPER),
        _gpu("a100", "NVIDIA A100-SXM4-80GB", 84_987_740_160, 2039e9, *_AMPERE),
        _tpu("tpu-v5e", "Google TPU v5e", "TPU v5 lite", 16 << 30, 819e9, 197e12, 100e9, 1.5e9, 2),
        _tpu("tpu-v5p", "Google TPU v5p", "TPU v5", 95 << 30, 2765e9, 459e12, 300e9, 1.75e9, 3),
        _tpu(
            "tpu-v6e", "Google TPU v6e", "TPU v6 lite", 32 << 30, 1640e9, 918e12, 224e9, 1.75e9, 2
        ),
    )
}


def of_kind(kind: str) -> Chip | None:
    """The chip with the given JAX `device_kind`; None if it is not in `CHIPS`."""
    return next((chip for chip in CHIPS.values() if chip.kind == kind), None)
