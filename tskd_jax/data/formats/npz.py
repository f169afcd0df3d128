"""NumPy's npz with D4RL's or OGBench's keys, or generated transitions such as SynthER's."""

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.data.formats.budget import COPIES, Budget
from tskd_jax.data.formats.gather import gather
from tskd_jax.data.formats.ogbench import episodes_of
from tskd_jax.data.keys import Keys
from tskd_jax.errors import DatasetError, first_line

SUFFIX = ".npz"


def read(path: Path, keys: Keys, warn: Callable[[str], None]) -> Columns:
    """Read the columns of an npz file with D4RL's keys.

    A file with `masks` is read as OGBench's data (`ogbench.episodes_of`).

    Raises:
      DatasetError: the file is not npz, or a key is missing, misshapen or not numeric.
    """
    arrays = load(path, Budget())
    if "masks" in arrays and "terminals" in arrays and not keys.terminals:
        flags = {key: reader(arrays)(key, 1) for key in ("masks", "terminals")}
        shapes = [flag.shape for flag in flags.values()]
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise DatasetError(
                f"{path}: keys 'masks' and 'terminals' have shapes {shapes[0]} and {shapes[1]}, "
                "expected one number in each for each row"
            )
        arrays = episodes_of(
            {key: one for key, one in (arrays | flags).items() if one.shape[:1] == shapes[0]}
        )
        return gather(str(path), list(arrays), reader(arrays), keys, lambda _line: None)
    return gather(str(path), list(arrays), reader(arrays), keys, warn)


def reader(arrays: Mapping[str, np.ndarray]) -> Callable[[str, int], np.ndarray]:
    """A function (key, rank) -> array; for rank 1 it flattens (N, 1)."""

    def read_one(key: str, rank: int) -> np.ndarray:
        array = arrays[key]
        return array[:, 0] if rank == 1 and array.ndim == 2 and array.shape[1] == 1 else array

    return read_one


def load(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """Load all arrays of a file, without unpickling: no code in the file is executed.

    What else is in it is left out.

    Raises:
      DatasetError: the file is not npz, damaged, larger than the free memory, or holds Python
        objects.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            members = packed.infolist()
        budget.spend(COPIES * sum(one.file_size for one in members), str(path))
        with np.load(path, allow_pickle=False) as file:
            found = {key: file[key] for key in file.files}
        # Of anything but an array, such as a README, NumPy gives the bytes.
        arrays = {key: one for key, one in found.items() if isinstance(one, np.ndarray)}
        for member in members:
            if member.filename.endswith(".npy") and member.filename[:-4] not in arrays:
                raise ValueError(f"{member.filename} is not an array")
        return arrays
    except DatasetError:
        raise
    except Exception as error:  # NumPy and zipfile raise almost any type of error on a damaged file
        raise DatasetError(
            f"{path}: not a readable npz file ({first_line(error)}); is it complete, and of "
            "numbers alone?"
        ) from error
