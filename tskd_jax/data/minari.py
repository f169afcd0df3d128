"""Minari's HDF5 layout, read without the minari package."""

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tskd_jax.data.d4rl import first_line as first_line
from tskd_jax.data.d4rl import from_arrays
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError


def is_minari(path: Path) -> bool:
    """Whether the file has Minari's `episode_<i>` groups (False for what is not HDF5 at all)."""
    try:
        with h5py.File(path, "r") as file:
            return "observations" not in file and "episode_0" in file
    except OSError:
        return False


def read(path: Path) -> Trajectories:
    """Trajectories of a Minari `main_data.hdf5`: groups `episode_<i>` with T + 1 observations.

    Raises:
      DatasetError: a group lacks an array, or its lengths do not fit together.
    """
    parts: dict[str, list[np.ndarray]] = {}
    try:
        with h5py.File(path, "r") as file:
            names = map(str, file)
            numbers = [int(name[8:]) for name in names if re.fullmatch(r"episode_\d+", name)]
            for number in sorted(numbers):
                for key, column in _read_episode(path, file, f"episode_{number}").items():
                    parts.setdefault(key, []).append(column)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise DatasetError(f"{path}: not readable ({first_line(error)})") from error
    if not parts:
        raise DatasetError(f"{path}: no episode holds a transition")
    for key, columns in parts.items():
        if len({column.shape[1:] for column in columns}) > 1:
            raise DatasetError(f"{path}: {key} differ in size between episodes")
    return from_arrays({key: np.concatenate(value) for key, value in parts.items()}, str(path))


def _read_episode(path: Path, file: Any, name: str) -> dict[str, np.ndarray]:
    group = file[name]
    arrays = {}
    for key in ("observations", "actions", "rewards", "terminations"):
        node = group.get(key) if isinstance(group, h5py.Group) else None
        if not isinstance(node, h5py.Dataset):
            raise DatasetError(f"{path}: {name} has no array {key!r}")
        arrays[key] = node[()]
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
