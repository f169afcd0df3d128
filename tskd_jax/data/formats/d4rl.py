"""D4RL's HDF5 format, read and written without the d4rl package.

The file itself is read, because `d4rl.qlearning_dataset` drops the rows at timeouts and pairs
terminal rows with a wrong next state.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.data.formats.gather import gather
from tskd_jax.data.formats.hdf5 import Reader, open_file
from tskd_jax.data.formats.npz import reader
from tskd_jax.data.keys import Keys
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError, first_line


def read(path: Path, keys: Keys, warn: Callable[[str], None]) -> Columns:
    """Read the columns of one HDF5 file in D4RL's format.

    Keys: observations (N, m), actions (N, n), rewards and terminals (N,) or (N, 1), and optionally
    next_observations (N, m) and timeouts (N,) or (N, 1); other keys are ignored. They may be below
    one group, or have the names that `keys` gives.

    Raises:
      DatasetError: not an HDF5 file, or a key is missing, misshapen, not numeric, or not in the
        file itself.
    """
    with open_file(path) as file:
        reader = Reader(path, file)
        return gather(str(path), reader.arrays(), reader.array, keys, warn)


def to_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """Convert trajectories to D4RL's arrays; the last row of a truncated episode is a timeout."""
    timeouts = np.zeros(trajectories.size, bool)
    timeouts[trajectories.ends] = ~trajectories.terminals[trajectories.ends]
    return {
        "observations": trajectories.observations,
        "actions": trajectories.actions,
        "rewards": trajectories.rewards,
        "next_observations": trajectories.next_observations,
        "terminals": trajectories.terminals,
        "timeouts": timeouts,
    }


def write(
    path: Path, trajectories: Trajectories, attributes: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Write trajectories in D4RL's HDF5 format, with the given attributes of the file.

    An additional key, `infos/source`, gives the source of a row: 0 recorded, 1 imagined, 2
    stitched.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        columns = to_arrays(trajectories) | {"infos/source": trajectories.source}
        for key, column in columns.items():
            file.create_dataset(
                key, data=column, compression="gzip", shuffle=True, track_times=False
            )


def read_with_package(name: str, keys: Keys, warn: Callable[[str], None]) -> Columns:
    """Read columns with the optional `d4rl` package: `gym.make(name).get_dataset()`.

    Raises:
      DatasetError: the packages are not installed, or do not know the environment; or a key is
        missing.
    """
    try:
        import d4rl  # noqa: F401  # pyright: ignore[reportMissingImports]
        import gym  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DatasetError(
            f"d4rl:{name} needs the packages d4rl and gym ({error}); without them, give the path "
            "of the HDF5 file instead"
        ) from error
    try:
        arrays = {key: np.asarray(one) for key, one in gym.make(name).get_dataset().items()}
    except Exception as error:
        raise DatasetError(f"d4rl:{name}: {first_line(error)}") from error
    return gather(f"d4rl:{name}", list(arrays), reader(arrays), keys, warn)
