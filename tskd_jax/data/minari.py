"""Minari's HDF5 layout, read without the minari package (method section 1)."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

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
    with h5py.File(path, "r") as file:
        prefix = "episode_"
        for number in sorted(int(str(k).removeprefix(prefix)) for k in file if k != "metadata"):
            group: Any = file[f"episode_{number}"]
            for key in ("observations", "actions", "rewards", "terminations"):
                if not isinstance(group.get(key), h5py.Dataset):
                    raise DatasetError(f"{path}: episode_{number} has no array {key!r}")
            rewards = group["rewards"][()]
            observations = group["observations"][()]
            steps = len(rewards)
            if len(observations) != steps + 1:
                raise DatasetError(
                    f"{path}: episode_{number} has {len(observations)} observations and {steps} "
                    "rewards; T + 1 and T are expected"
                )
            if steps == 0:
                continue
            timeouts = np.zeros(steps, bool)
            timeouts[-1] = not group["terminations"][-1]
            columns = {
                "observations": observations[:-1],
                "next_observations": observations[1:],
                "actions": group["actions"][()],
                "rewards": rewards,
                "terminals": group["terminations"][()],
                "timeouts": timeouts,
            }
            for key, column in columns.items():
                parts.setdefault(key, []).append(column)
    if not parts:
        raise DatasetError(f"{path}: no episode holds a transition")
    return from_arrays({key: np.concatenate(value) for key, value in parts.items()}, str(path))
