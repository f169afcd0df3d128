"""XLA's compilers for accelerators that are not here (JAX's ahead-of-time compilation)."""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from tskd_jax.errors import DeviceError
from tskd_jax.machine.chips import Chip
from tskd_jax.machine.silence import silent

# platform -> (the module that holds its compiler, the extra that brings it)
PLUGINS = {"gpu": ("jax_cuda12_plugin", "aot-cuda"), "tpu": ("libtpu", "aot-tpu")}
# Without a device nothing can be tried out, and nobody need be asked what this machine is.
_FLAGS = "--xla_gpu_autotune_level=0"
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no device that two processes would fight for
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def missing(chip: Chip) -> str:
    """What to install before programs can be compiled for a chip; "" where it is there."""
    module, extra = PLUGINS[chip.platform]
    if importlib.util.find_spec(module):
        return ""
    return f"the compiler for {chip.title} is not installed: pip install 'tskd_jax[{extra}]'"


def prepare() -> None:
    """Let JAX compute on this machine's CPU alone, before it has looked for any device."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
    jax.config.update("jax_platforms", "cpu")
    with silent():
        jax.devices()


def devices_of(chip: Chip, count: int) -> Sequence[Any]:
    """So many devices of a chip that are not here, to compile for.

    Raises:
      DeviceError: the compiler is not installed, or knows no such devices.
    """
    if problem := missing(chip):
        raise DeviceError(problem)
    name = chip.topology(count)
    try:
        with silent():
            if chip.platform == "gpu":
                found = topologies.get_topology_desc(
                    platform="cuda", topology=name, target_config=chip.description()
                )
            else:
                for variable, value in _ENVIRONMENT.items():
                    os.environ.setdefault(variable, value)
                found = topologies.get_topology_desc(platform="tpu", topology_name=name)
    except Exception as error:
        cause = " ".join(str(error).split())[:200]
        raise DeviceError(f"{chip.title}: XLA describes no {count} of them ({cause})") from error
    return found.devices[:count]
