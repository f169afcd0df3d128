"""XLA compilers for accelerators that this machine does not have (ahead-of-time compilation)."""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from tskd_jax.errors import DeviceError
from tskd_jax.machine.chips import Chip
from tskd_jax.machine.silence import silent

# platform -> (the module that contains its compiler, the extra that installs it)
PLUGINS = {"gpu": ("jax_cuda12_plugin", "aot-cuda"), "tpu": ("libtpu", "aot-tpu")}
# Without a device, XLA cannot autotune kernels, and libtpu need not query the machine's metadata.
_FLAGS = "--xla_gpu_autotune_level=0"
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # there is no device for processes to contend for
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def missing(chip: Chip) -> str:
    """What must be installed to compile programs for a chip; "" if nothing is missing."""
    module, extra = PLUGINS[chip.platform]
    if importlib.util.find_spec(module):
        return ""
    return f"the compiler for {chip.title} is not installed: pip install 'tskd_jax[{extra}]'"


def prepare() -> None:
    """Restrict JAX to this machine's CPU. Call it before JAX has looked for any device."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAGS}".strip()
    jax.config.update("jax_platforms", "cpu")
    with silent():
        jax.devices()


def devices_of(chip: Chip, count: int) -> Sequence[Any]:
    """Describe `count` devices of a chip that this machine does not have, as compilation targets.

    Raises:
      DeviceError: the compiler is not installed, or does not know such devices.
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
