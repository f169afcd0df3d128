"""What each of several processes of one machine computes on: its share of the cores and devices.

Devices are chosen by variables that a process reads as it starts. Cores are pinned inside it, once
the libraries have counted them: sums of XLA and of OpenBLAS depend on the number of threads, so a
process that began with one core would compute other bits than one that sees the whole machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from tskd_jax.errors import DeviceError

Item = TypeVar("Item")
# Of a GPU's memory, that JAX takes when it starts; its own default for a process that is alone.
MEMORY_SHARE = 0.75
_PROBE = """
import json, jax
from tskd_jax.errors import DeviceError
from tskd_jax.machine import devices
try:
    devices.check()
    print(json.dumps([jax.default_backend(), jax.local_device_count()]))
except DeviceError as error:
    print(json.dumps([str(error), 0]))
"""


def probe() -> tuple[str, int]:
    """(platform, such as cpu, gpu or tpu; devices) that a process started here would compute on.

    Asked in a process of its own: JAX keeps what it has once looked at, of a GPU the memory and of
    a TPU all chips.

    Raises:
      DeviceError: there is no device.
    """
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True)
    lines = done.stdout.splitlines() or ["null"]
    found = json.loads(lines[-1]) if done.returncode == 0 else None
    if not found:
        cause = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DeviceError(f"JAX cannot be asked for its devices ({cause})")
    platform, count = found
    if not count:
        raise DeviceError(platform)
    return platform, count


def share(items: Sequence[Item], place: int, count: int) -> list[Item]:
    """The items of one of `count` processes: as many as the others have, but for one.

    Where there are fewer items than processes, several processes have the same one.
    """
    if len(items) < count:
        return [items[place % len(items)]]
    return list(items[place * len(items) // count : (place + 1) * len(items) // count])


def device_variables(platform: str, devices: int, place: int, count: int) -> dict[str, str]:
    """Environment variables with which a process sees its own devices alone.

    Args:
      platform: of `probe`.
      devices: of `probe`.
      place: of the process, from 0.
      count: of processes.

    Raises:
      DeviceError: a TPU has fewer chips than there are processes; they cannot be shared.
    """
    if platform in ("gpu", "cuda"):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(devices)))
        own = share(visible.split(","), place, count)
        variables = {"CUDA_VISIBLE_DEVICES": ",".join(own)}
        fraction = "XLA_PYTHON_CLIENT_MEM_FRACTION"
        if count > devices and fraction not in os.environ:
            variables[fraction] = f"{MEMORY_SHARE / -(-count // devices):.2g}"
        return variables
    if platform == "tpu":
        if count > devices:
            raise DeviceError(
                f"{count} processes, but JAX sees {devices} TPU devices, which processes cannot "
                f"share; at most {devices} are allowed"
            )
        visible = os.environ.get("TPU_VISIBLE_CHIPS") or ",".join(map(str, range(devices)))
        return {
            "TPU_VISIBLE_CHIPS": visible.split(",")[place],
            "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_BOUNDS": "1,1,1",
        }
    return {}


def cores() -> list[int]:
    """Numbers of the cores that this process may use; [] where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(own: Sequence[int]) -> None:
    """Keep this process to these cores, with all threads that it has; [] is all of them.

    Call it when JAX's devices are known (`devices.check`): see the head of this file.
    """
    import scipy.linalg  # noqa: F401  # has counted the cores, as NumPy has

    if own and hasattr(os, "sched_setaffinity"):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # it has just ended
                os.sched_setaffinity(int(thread.name), own)
