"""From a path or a name to trajectories: every dataset is loaded here."""

import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tskd_jax.data.checks import DEFAULT, DatasetChecks
from tskd_jax.data.formats import d4rl, minari
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError
from tskd_jax.fields import ANY, field

BUNDLED = {"hopper-sac-replay": "hopper_sac_replay.hdf5"}


@dataclass(frozen=True)
class Config:
    """`config.dataset`."""

    name: str = field("hopper-sac-replay", ANY, "bundled name, D4RL name or Minari id")
    path: str = field("", ANY, "HDF5 file in D4RL's format; goes before the name")
    drop_invalid: bool = field(False, ANY, "drop episodes with numbers that are not finite")

    @property
    def source(self) -> str:
        """What `load_dataset` takes: the path, or else the name."""
        return self.path or self.name


def d4rl_file(name: str) -> Path:
    """Where D4RL's cache keeps a dataset: hopper-medium-v2 -> hopper_medium-v2.hdf5."""
    folder = Path(os.environ.get("D4RL_DATASET_DIR", "~/.d4rl/datasets")).expanduser()
    stem, dash, version = name.rpartition("-v")
    return folder / (stem.replace("-", "_") + dash + version + ".hdf5")


def minari_file(name: str) -> Path:
    """Where Minari's cache keeps a dataset: mujoco/hopper/medium-v0 -> .../data/main_data.hdf5."""
    folder = Path(os.environ.get("MINARI_DATASETS_PATH", "~/.minari/datasets")).expanduser()
    return folder / name / "data" / "main_data.hdf5"


def resolve(path_or_name: str | os.PathLike) -> Path:
    """The file behind a path, a bundled name, a D4RL name or a Minari id.

    Raises:
      DatasetError: there is no such file; the message says where it was looked for.
    """
    given = os.fspath(path_or_name)
    if not given:
        raise DatasetError("no dataset is named; give --config.dataset.path=FILE")
    if given in BUNDLED:
        return Path(str(files("tskd_jax") / "data" / "bundled" / BUNDLED[given]))
    looked_for = [Path(given).expanduser()]
    if not given.endswith((".hdf5", ".h5")):
        looked_for += [d4rl_file(given), minari_file(given)]
    for path in looked_for:
        if path.is_file():
            return path
    places = ", ".join(map(str, looked_for))
    raise DatasetError(
        f"dataset {given!r}: no such file (looked for {places}); give a path to an HDF5 file in "
        f"D4RL's format, or a bundled name ({', '.join(BUNDLED)}); docs/datasets.md says how to "
        "fetch others"
    )


def load_dataset(path_or_name: str | os.PathLike, checks: DatasetChecks = DEFAULT) -> Trajectories:
    """Trajectories of a file in D4RL's or Minari's format.

    Args:
      path_or_name: a path; `hopper-sac-replay` (bundled); a D4RL name such as
        `hopper-medium-replay-v2` (from `$D4RL_DATASET_DIR` or `~/.d4rl/datasets`); a Minari id
        such as `mujoco/hopper/medium-v0` (from `$MINARI_DATASETS_PATH` or `~/.minari/datasets`);
        or `d4rl:NAME`, which asks the optional `d4rl` package.
      checks: what the file must satisfy beyond its format.

    Raises:
      DatasetError: the file is missing, damaged or inconsistent.
    """
    given = os.fspath(path_or_name)
    if given.startswith("d4rl:"):
        return d4rl.read_with_package(given.removeprefix("d4rl:"), checks)
    path = resolve(given)
    return (minari if minari.is_minari(path) else d4rl).read(path, checks)


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, by which a run recognises its dataset."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
