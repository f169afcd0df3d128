"""Minari's HDF5 layout, read without the minari package."""

import re
from pathlib import Path

import h5py
import numpy as np

from tskd_jax.data.checks import DEFAULT, DatasetChecks
from tskd_jax.data.formats.d4rl import first_line as first_line
from tskd_jax.data.formats.d4rl import from_arrays
from tskd_jax.data.formats.hdf5 import Reader
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError

ARRAYS = {"observations": 2, "actions": 2, "rewards": 1, "terminations": 1}


def is_minari(path: Path) -> bool:
    """Whether the file has Minari's `episode_<i>` groups (False for what is not HDF5 at all)."""
    try:
        with h5py.File(path, "r") as file:
            reader = Reader(path, file)
            return reader.has("episode_0") and not reader.has("observations")
    except Exception:  # what is wrong with the file, the reader of the other format says
        return False


def read(path: Path, checks: DatasetChecks = DEFAULT) -> Trajectories:
    """Trajectories of a Minari `main_data.hdf5`: groups `episode_<i>` with T + 1 observations.

    Raises:
      DatasetError: a group lacks an array, or its lengths do not fit together.
    """
    parts: dict[str, list[np.ndarray]] = {}
    try:
        with h5py.File(path, "r") as file:
            reader = Reader(path, file)
            names = map(str, file)
            numbers = [int(name[8:]) for name in names if re.fullmatch(r"episode_\d+", name)]
            for number in sorted(numbers):
                for key, column in _read_episode(path, reader, f"episode_{number}").items():
                    parts.setdefault(key, []).append(column)
    except DatasetError:
        raise
    except Exception as error:  # h5py raises nearly any where the file's structures are damaged
        raise DatasetError(f"{path}: not readable ({first_line(error)})") from error
    if not parts:
        raise DatasetError(f"{path}: no episode holds a transition")
    for key, columns in parts.items():
        if len({column.shape[1:] for column in columns}) > 1:
            raise DatasetError(f"{path}: {key} differ in size between episodes")
    columns = {key: np.concatenate(value) for key, value in parts.items()}
    return from_arrays(columns, str(path), checks)


def _read_episode(path: Path, reader: Reader, name: str) -> dict[str, np.ndarray]:
    group = reader.group(name) if reader.is_group(name) else None
    arrays = {}
    for key, rank in ARRAYS.items():
        if group is None or not group.has(key) or group.is_group(key):
            raise DatasetError(f"{path}: {name} has no array {key!r}")
        arrays[key] = group.array(key, rank)
    steps = len(arrays["rewards"])
    if len(arrays["observations"]) != steps + 1:
        raise DatasetError(
            f"{path}: {name} has {len(arrays['observations'])} observations and {steps} "
            "rewards; T + 1 and T are expected"
        )
    for key in ("actions", "terminations"):
        if len(arrays[key]) != steps:
            raise DatasetError(f"{path}: {name} has {len(arrays[key])} {key} and {steps} rewards")
    if steps == 0:
        return {}
    timeouts = np.zeros(steps, bool)
    timeouts[-1] = not arrays["terminations"][-1]
    return {
        "observations": arrays["observations"][:-1],
        "next_observations": arrays["observations"][1:],
        "actions": arrays["actions"],
        "rewards": arrays["rewards"],
        "terminals": arrays["terminations"],
        "timeouts": timeouts,
    }
