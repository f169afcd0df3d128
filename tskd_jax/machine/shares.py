"""The share of cores and devices that each of several processes on one machine computes on.

Environment variables, which a process reads as it starts, select its devices. Cores are pinned
inside the process, after the libraries have counted them: sums in XLA and OpenBLAS depend on the
number of threads, so a process that starts with one core would compute other bits than one that
sees the whole machine.
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
# The share of a GPU's memory that JAX preallocates: its own default for a single process.
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

    A separate process asks JAX, because JAX keeps what it has once opened: the memory of a GPU, or
    all chips of a TPU.

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
    """The items of process `place` of `count`; the shares differ by at most one item.

    If there are fewer items than processes, several processes share an item.
    """
    if len(items) < count:
        return [items[place % len(items)]]
    return list(items[place * len(items) // count : (place + 1) * len(items) // count])


def device_variables(platform: str, devices: int, place: int, count: int) -> dict[str, str]:
    """Environment variables that show a process only its own devices.

    Args:
      platform: as returned by `probe`.
      devices: as returned by `probe`.
      place: index of the process, from 0.
      count: number of processes.

    Raises:
      DeviceError: a TPU has fewer chips than there are processes; chips cannot be shared.
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
    """Numbers of the cores that this process may use; [] if the system does not report them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(own: Sequence[int]) -> None:
    """Pin all threads of this process to the given cores; [] changes nothing.

    Call it after `devices.check`, when JAX has counted the cores; see the module's docstring.
    """
    import scipy.linalg  # noqa: F401  # has counted the cores, as NumPy has

    if own and hasattr(os, "sched_setaffinity"):
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # the thread has just ended
                os.sched_setaffinity(int(thread.name), own)
