"""D4RL's HDF5 format, read and written without the d4rl package.

The file itself is read, because `d4rl.qlearning_dataset` drops the rows at timeouts and pairs
terminal rows with a wrong next state.
"""

from collections.abc import Callable, Mapping, Sequence
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

NAMES = "names"  # the attribute of an array that names its dimensions


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
        columns = gather(str(path), reader.arrays(), reader.array, keys, warn)
        names = dict(columns.names)
        for key in ("observations", "actions"):
            given = reader.texts(key, NAMES) if not getattr(keys, key) and reader.has(key) else ()
            if len(given) == columns.arrays[key].shape[1]:
                names[key] = given
        return Columns(columns.arrays, names)


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
    path: Path,
    trajectories: Trajectories,
    attributes: Mapping[str, Any] = MappingProxyType({}),
    names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write trajectories in D4RL's HDF5 format.

    An additional key, `infos/source`, gives the source of a row: 0 recorded, 1 imagined, 2
    stitched.

    Args:
      path: of the file.
      trajectories: the dataset.
      attributes: of the file.
      names: key -> the names of its dimensions, which become an attribute of the array.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        columns = to_arrays(trajectories) | {"infos/source": trajectories.source}
        for key, column in columns.items():
            file.create_dataset(
                key, data=column, compression="gzip", shuffle=True, track_times=False
            )
        for key, given in names.items():
            file[key].attrs[NAMES] = list(given)


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
