"""D4RL's HDF5 format, read and written without the d4rl package.

`d4rl.qlearning_dataset` drops the rows at timeouts and pairs terminal rows with a wrong next state,
so the file is read, not that view.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tskd_jax.data import seams
from tskd_jax.data.checks import DEFAULT, DatasetChecks
from tskd_jax.data.formats.hdf5 import Reader
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.errors import DatasetError

REQUIRED = {"observations": 2, "actions": 2, "rewards": 1, "terminals": 1}
OPTIONAL = {"next_observations": 2, "timeouts": 1}
FLAGS = ("terminals", "timeouts")
LARGEST = 1e15  # its square, summed over a million rows, is a number in single precision


def read(path: Path, checks: DatasetChecks = DEFAULT) -> Trajectories:
    """Trajectories of one HDF5 file in D4RL's format.

    Keys: observations (N, m), actions (N, n), rewards and terminals (N,) or (N, 1), and optionally
    next_observations (N, m) and timeouts (N,) or (N, 1); all else is left alone.

    Raises:
      DatasetError: not an HDF5 file, or a key is missing, misshapen, not numeric, not finite, or
        not in the file itself.
    """
    columns = {}
    try:
        with h5py.File(path, "r") as file:
            reader = Reader(path, file)
            for key, rank in (REQUIRED | OPTIONAL).items():
                if reader.has(key):
                    columns[key] = reader.array(key, rank)
    except DatasetError:
        raise
    except Exception as error:  # h5py raises nearly any where the file's structures are damaged
        raise DatasetError(
            f"{path}: not a readable HDF5 file ({first_line(error)}); is it complete, and in "
            "D4RL's format?"
        ) from error
    return from_arrays(columns, str(path), checks)


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def from_arrays(
    columns: Mapping[str, np.ndarray], name: str = "dataset", checks: DatasetChecks = DEFAULT
) -> Trajectories:
    """Trajectories of D4RL's arrays: split into episodes, next states filled in where absent.

    An episode ends where terminal or timeout is set; rows behind the last end are a fragment of
    unknown fate and are dropped. Without `next_observations`, s'_i is s_{i+1} inside an episode and
    a truncated episode's last transition, whose next state nobody recorded, is dropped (a terminal
    one keeps its own state as a stand-in: nothing bootstraps from it). Without `timeouts`, the end
    of the file ends an episode.

    Raises:
      DatasetError: see `read`.
    """
    invalid = _check_columns(columns, name, checks)
    rows = len(invalid)
    terminals = columns["terminals"].astype(bool)
    ends = _ends(columns)
    if not ends.any():
        raise DatasetError(
            f"{name}: no episode ends: 'terminals' and 'timeouts' are false in all {rows} rows"
        )
    observations = columns["observations"]
    if "next_observations" in columns:
        next_observations = columns["next_observations"]
        unknown = seams.unknown_ends(name, observations, next_observations, ends, checks)
        seams.check_order(name, observations, next_observations, ends, invalid, checks)
        next_observations = np.where(unknown[:, None], observations, next_observations)
    else:
        unknown = ends
        next_observations = np.roll(observations, -1, axis=0)
        next_observations[ends] = observations[ends]
    kept = ~unknown | terminals
    last = np.flatnonzero(ends)[-1]
    kept[last + 1 :] = False
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    checks.check_split(name, np.flatnonzero(ends), rows, "timeouts" in columns)
    if invalid.any():
        poor = np.isin(episode, episode[invalid])
        kept &= ~poor
        if not kept.any():
            raise DatasetError(f"{name}: every episode has a row that is not finite")
        checks.warn(
            f"{name}: {len(np.unique(episode[poor]))} episodes of {poor.sum()} rows are dropped: "
            f"{invalid.sum()} of those rows are not finite"
        )
    lengths = np.bincount(episode[kept], minlength=episode[last] + 1)
    if not kept.any():
        raise DatasetError(
            f"{name}: every row ends an episode and there are no 'next_observations', so no "
            "transition is complete"
        )
    return from_columns(
        observations=observations[kept],
        actions=columns["actions"][kept],
        rewards=columns["rewards"][kept],
        next_observations=next_observations[kept],
        terminals=terminals[kept],
        lengths=lengths[lengths > 0],
    )


def _ends(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) the rows that end an episode: without time limits, the last row is one, too."""
    ends = columns["terminals"] != 0
    if "timeouts" in columns:
        return ends | (columns["timeouts"] != 0)
    ends[-1] = True
    return ends


def _check_columns(
    columns: Mapping[str, np.ndarray], name: str, checks: DatasetChecks
) -> np.ndarray:
    """(N,) which rows are invalid: none, unless `checks` allows dropping their episodes."""
    for key in REQUIRED:
        if key not in columns:
            raise DatasetError(f"{name}: key {key!r} is missing; found {sorted(columns)}")
    for key, column in columns.items():
        rank = (REQUIRED | OPTIONAL)[key]
        if column.dtype.kind not in "fiub" or column.ndim != rank:
            raise DatasetError(
                f"{name}: key {key!r} has type {column.dtype} and shape {column.shape}, expected "
                f"numbers of rank {rank}"
            )
    rows = len(columns["rewards"])
    if rows < 2:
        raise DatasetError(f"{name}: {rows} transitions; at least two are needed")
    for key, column in columns.items():
        if len(column) != rows:
            raise DatasetError(f"{name}: key {key!r} has {len(column)} rows, rewards have {rows}")
    invalid = np.zeros(rows, bool)
    for key, column in columns.items():
        if 0 in column.shape:
            raise DatasetError(f"{name}: key {key!r} has shape {column.shape}: nothing is in it")
        if key in FLAGS:
            bad = (column != 0) & (column != 1)
            if bad.any():
                raise DatasetError(
                    f"{name}: key {key!r} is neither 0 nor 1 in {bad.sum()} rows, first "
                    f"{column[bad.argmax()]} in row {bad.argmax()}; mend these flags: they split "
                    "the file into episodes"
                )
            continue
        if key == "next_observations":
            if column.shape != columns["observations"].shape:
                raise DatasetError(
                    f"{name}: key 'next_observations' has shape {column.shape}, observations have "
                    f"{columns['observations'].shape}"
                )
            # Nobody may have recorded what followed an end.
            column = np.where(_ends(columns)[:, None] & ~np.isfinite(column), 0, column)
        with np.errstate(invalid="ignore", over="ignore"):
            bad = ~(np.abs(column.astype(np.float32)) <= LARGEST).reshape(rows, -1).all(1)
        if bad.any() and not checks.drop_invalid:
            raise DatasetError(
                f"{name}: key {key!r} is not finite, or beyond ±{LARGEST:.0e}, in {bad.sum()} "
                f"rows, first in row {bad.argmax()}; mend them, or drop the episodes of those "
                "rows with --config.dataset.drop_invalid=True"
            )
        invalid |= bad
    return invalid


def to_arrays(trajectories: Trajectories) -> dict[str, np.ndarray]:
    """D4RL's arrays of trajectories; the last row of a truncated episode is a timeout."""
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


def write(path: Path, trajectories: Trajectories, attributes: Mapping[str, Any]) -> None:
    """Write trajectories in D4RL's HDF5 format.

    One more key, `infos/source`, says where a row comes from: 0 recorded, 1 imagined, 2 stitched.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        columns = to_arrays(trajectories) | {"infos/source": trajectories.source}
        for key, column in columns.items():
            file.create_dataset(
                key, data=column, compression="gzip", shuffle=True, track_times=False
            )


def read_with_package(name: str, checks: DatasetChecks = DEFAULT) -> Trajectories:
    """Trajectories through the optional `d4rl` package: `gym.make(name).get_dataset()`.

    Raises:
      DatasetError: the packages are not installed, or know no such environment.
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
        arrays = gym.make(name).get_dataset()
    except Exception as error:
        raise DatasetError(f"d4rl:{name}: {first_line(error)}") from error
    columns = {key: np.asarray(arrays[key]) for key in REQUIRED | OPTIONAL if key in arrays}
    return from_arrays(columns, f"d4rl:{name}", checks)
