"""A folder with one file per episode: npz, HDF5, CSV or Parquet."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.data.formats import npz, tables
from tskd_jax.data.formats.budget import Budget
from tskd_jax.data.formats.gather import gather
from tskd_jax.data.formats.hdf5 import SUFFIXES as HDF5
from tskd_jax.data.formats.hdf5 import Reader, open_file
from tskd_jax.data.keys import SHOWN, Keys
from tskd_jax.errors import DatasetError

SUFFIXES = (npz.SUFFIX, *HDF5, *tables.CSV, tables.PARQUET)


def files_of(folder: Path) -> list[Path]:
    """The episode files of a folder, in the order of the numbers in their names."""
    files = [one for one in folder.iterdir() if one.suffix.lower() in SUFFIXES and one.is_file()]
    pieces = {one: re.split(r"(\d+)", one.name) for one in files}
    return sorted(
        files, key=lambda one: [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces[one]]
    )


def read(folder: Path, keys: Keys, warn: Callable[[str], None]) -> Columns:
    """Read the columns of all episodes; each episode ends with its file.

    A file has D4RL's keys or a table's columns. One of arrays may have T + 1 observations for T
    actions, and an npz file `terminals` as one flag for the whole episode. Flags inside a file end
    episodes, too.

    Raises:
      DatasetError: there are no episodes, or their columns or sizes differ.
    """
    files = files_of(folder)
    if not files:
        raise DatasetError(f"{folder}: no episode in it; one file each, {', '.join(SUFFIXES)}")
    budget, parts = Budget(), []
    names: dict[str, tuple[str, ...]] = {}
    for number, file in enumerate(files):
        columns = _read_one(file, keys, budget, warn)
        arrays = dict(columns.arrays)
        for key, given in columns.names.items():
            first = names.setdefault(key, given)
            if set(given) != set(first):
                raise DatasetError(
                    f"{file}: {key} are of other columns than in {files[0].name}: only one of the "
                    f"two has {', '.join(sorted(set(given) ^ set(first))[:SHOWN])}"
                )
            arrays[key] = arrays[key][:, [given.index(one) for one in first]]
        parts.append(arrays | {"episode": np.full(len(arrays["rewards"]), number)})
        if set(parts[-1]) != set(parts[0]):
            raise DatasetError(
                f"{file}: holds {sorted(arrays)}, but {files[0].name} {sorted(parts[0])}"
            )
        for key in arrays:
            if parts[-1][key].dtype.kind not in "fiub":
                raise DatasetError(f"{file}: {key} holds {parts[-1][key].dtype}, not numbers")
            if parts[-1][key].shape[1:] != parts[0][key].shape[1:]:
                raise DatasetError(
                    f"{file}: {key} of shape {parts[-1][key].shape}, but in {files[0].name} "
                    f"{parts[0][key].shape}"
                )
    return Columns({key: np.concatenate([one[key] for one in parts]) for key in parts[0]}, names)


def _read_one(file: Path, keys: Keys, budget: Budget, warn: Callable[[str], None]) -> Columns:
    """Read one episode's columns, with next states if there are T + 1 observations."""
    suffix = file.suffix.lower()
    optional = ("terminals",)  # the end of the file ends the episode
    if suffix in tables.CSV:
        return tables.read_csv(file, replace(keys, episode=""), warn, optional)
    if suffix == tables.PARQUET:
        return tables.read_parquet(file, replace(keys, episode=""), warn, optional)
    if suffix in HDF5:
        with open_file(file) as opened:
            reader = Reader(file, opened, budget)
            columns = gather(str(file), reader.arrays(), reader.array, keys, warn, optional)
    else:
        arrays = npz.load(file, budget)
        columns = gather(str(file), list(arrays), npz.reader(arrays), keys, warn, optional)
    found = dict(columns.arrays)
    if found["rewards"].ndim != 1 or found["observations"].ndim != 2:
        raise DatasetError(
            f"{file}: observations of shape {found['observations'].shape} and rewards of shape "
            f"{found['rewards'].shape}; (T, m) or (T + 1, m), and (T,) are expected"
        )
    steps = len(found["rewards"])
    if "next_observations" not in found and len(found["observations"]) == steps + 1:
        found["next_observations"] = found["observations"][1:]
        found["observations"] = found["observations"][:-1]
    for flag in ("terminals", "timeouts"):
        if flag in found and found[flag].size == 1:
            whole = np.zeros(steps, found[flag].dtype)
            whole[-1:] = found[flag].reshape(())
            found[flag] = whole
    for key, column in found.items():
        rows = len(column) if column.ndim else "no"
        if rows != steps:
            raise DatasetError(f"{file}: {key} has {rows} rows, rewards have {steps}")
    return Columns(found, columns.names)
