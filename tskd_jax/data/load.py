"""Loads any dataset as trajectories, from a path or a name."""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tskd_jax.data.arrays import Columns, from_arrays
from tskd_jax.data.checks import DEFAULT, DatasetChecks
from tskd_jax.data.d4rl_files import FILES, local_file
from tskd_jax.data.formats import d4rl, episodes, hdf5, lerobot, minari, npz, ogbench, tables
from tskd_jax.data.keys import AS_CUSTOMARY, ROLES, Keys
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError
from tskd_jax.fields import ANY, field

BUNDLED = {
    "hopper-sac-replay": "hopper_sac_replay.hdf5",
    "halfcheetah-sac-replay": "halfcheetah_sac_replay.hdf5",
    "walker2d-sac-replay": "walker2d_sac_replay.hdf5",
}
SUFFIXES = (*hdf5.SUFFIXES, npz.SUFFIX, *tables.CSV, tables.PARQUET)


@dataclass(frozen=True)
class Config:
    """`config.dataset`."""

    name: str = field("hopper-sac-replay", ANY, "bundled name, D4RL name or Minari id")
    path: str = field(
        "",
        ANY,
        "HDF5 (D4RL, Minari), npz, CSV or Parquet file, or a folder of episodes, of Minari or of "
        "LeRobot; goes before the name",
    )
    download: bool = field(False, ANY, "fetch a D4RL dataset that is named and not there yet")
    drop_invalid: bool = field(False, ANY, "drop episodes with numbers that are not finite")
    unordered: bool = field(False, ANY, "rows belong to no episodes: generated transitions")
    observations: str = field(
        "", ANY, "keys or columns of states, by comma, * for any text; empty: as the format has it"
    )
    actions: str = field("", ANY, "those of actions")
    rewards: str = field("", ANY, "that of rewards")
    terminals: str = field("", ANY, "that of the flag of ends that are terminal")
    timeouts: str = field("", ANY, "that of the flag of ends that are cuts, as by a time limit")
    next_observations: str = field("", ANY, "those of next states")
    episode: str = field("", ANY, "that of an episode's number or name")

    @property
    def source(self) -> str:
        """The argument of `load_dataset`: the path if there is one, otherwise the name."""
        return self.path or self.name

    @property
    def keys(self) -> Keys:
        """The keys or columns that the user assigned to roles."""
        return Keys(**{role: getattr(self, role) for role in ROLES})


def minari_file(name: str) -> Path:
    """The file of a dataset in Minari's cache: mujoco/hopper/medium-v0 -> …/data/main_data.hdf5."""
    folder = os.path.expanduser(os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets"))
    return Path(folder) / name / "data" / "main_data.hdf5"


def resolve(path_or_name: str | os.PathLike) -> Path:
    """Find the file or folder for a path, a bundled name, a D4RL name or a Minari id.

    Raises:
      DatasetError: nothing was found; the message lists the places that were searched.
    """
    given = os.fspath(path_or_name)
    if not given:
        raise DatasetError("no dataset is named; give --config.dataset.path=FILE")
    if given in BUNDLED:
        return Path(str(files("tskd_jax") / "data" / "bundled" / BUNDLED[given]))
    looked_for = [Path(os.path.expanduser(given))]  # Path.expanduser fails for an unknown user
    if not given.lower().endswith(SUFFIXES):
        looked_for += [local_file(given), minari_file(given), minari_file(given).parent]
    for path in looked_for:
        if path.is_file():
            return path
        if path.is_dir():
            folder = minari.data_folder(path)
            file = folder / minari.FILE if folder else path
            return file if file.is_file() else folder or path
    places = ", ".join(map(str, looked_for[:3]))
    if given in FILES:
        raise DatasetError(
            f"dataset {given!r}: no such file (looked for {places}); `tskd-jax data get {given}` "
            f"fetches it, or put {FILES[given].file} there; the embedded datasets need no network "
            f"({', '.join(BUNDLED)})"
        )
    raise DatasetError(
        f"dataset {given!r}: no such file (looked for {places}); give a path to a file (HDF5, npz, "
        f"CSV, Parquet) or a folder of episodes, or a bundled name ({', '.join(BUNDLED)}); "
        "docs/datasets.md says how to fetch others"
    )


def read_columns(
    path_or_name: str | os.PathLike,
    keys: Keys = AS_CUSTOMARY,
    warn: Callable[[str], None] = DEFAULT.warn,
) -> Columns:
    """Read the columns of a dataset, before they become trajectories; see `load_dataset`."""
    given = os.fspath(path_or_name)
    if given.startswith("d4rl:"):
        return d4rl.read_with_package(given.removeprefix("d4rl:"), keys, warn)
    if given.startswith(ogbench.PREFIX):
        return ogbench.read(given.removeprefix(ogbench.PREFIX), keys)
    path = resolve(given)
    if path.is_dir():
        if (path / lerobot.INFO).is_file():
            return lerobot.read(path, keys, warn)
        if minari.data_folder(path):
            return minari.read(path, keys)
        return episodes.read(path, keys, warn)
    suffix = path.suffix.lower()
    if suffix == npz.SUFFIX:
        return npz.read(path, keys, warn)
    if suffix in tables.CSV:
        return tables.read_csv(path, keys, warn)
    if suffix == tables.PARQUET:
        return tables.read_parquet(path, keys, warn)
    if not hdf5.may_be(path):
        raise DatasetError(
            f"{path}: of a kind that is not read; write it as HDF5, npz, CSV or Parquet (a log of "
            "messages, such as a ROS bag, as a table with a row for each control step)"
        )
    return minari.read(path, keys) if minari.is_minari(path) else d4rl.read(path, keys, warn)


def load_dataset(
    path_or_name: str | os.PathLike,
    checks: DatasetChecks = DEFAULT,
    keys: Keys = AS_CUSTOMARY,
) -> Trajectories:
    """Load a dataset in any of the formats of docs/datasets.md as trajectories.

    Args:
      path_or_name: a file: HDF5 in D4RL's or Minari's format, npz, CSV or Parquet; a folder: one
        file for each episode, Minari's, or LeRobot's; `hopper-sac-replay` (bundled); a D4RL name
        such as `hopper-medium-replay-v2` (from `$D4RL_DATASET_DIR` or `~/.d4rl/datasets`); a Minari
        id such as `mujoco/hopper/medium-v0` (from `$MINARI_DATASETS_PATH` or
        `~/.minari/datasets`); or `d4rl:NAME` and `ogbench:NAME`, which use these packages.
      checks: requirements on the file beyond its format.
      keys: the keys or columns for each role, if they have other names.

    Raises:
      DatasetError: the file is missing, damaged or inconsistent.
    """
    return load_named(path_or_name, checks, keys)[0]


def load_named(
    path_or_name: str | os.PathLike,
    checks: DatasetChecks = DEFAULT,
    keys: Keys = AS_CUSTOMARY,
) -> tuple[Trajectories, Mapping[str, tuple[str, ...]]]:
    """`load_dataset`, with the names of the dimensions as in `Columns.names`."""
    columns = read_columns(path_or_name, keys, checks.warn)
    given = os.fspath(path_or_name)
    name = given if of_package(given) else str(resolve(given))
    return from_arrays(columns.arrays, name, checks), columns.names


def of_package(name: str) -> bool:
    """Whether a package provides the dataset, rather than a file."""
    return name.startswith(("d4rl:", ogbench.PREFIX))


def content_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files below a folder; a run identifies its dataset by it."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for one in sorted(one for one in path.rglob("*") if one.is_file()):
        line = f"{one.relative_to(path)} {content_hash(one)}\n"
        digest.update(line.encode(errors="surrogateescape"))  # a name need not be UTF-8
    return digest.hexdigest()
