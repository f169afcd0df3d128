"""A run's folder: its config, its lock, and the manifest that its contents are checked against.

config.json          the run's config; the folder refuses any other config
manifest.json        finished stages, where they were made (`machines`), and checksums of all data
manifest.copy.json   a copy of the manifest, in case it is damaged
lock                 held by the process that uses the folder

In a job of several processes only the first accesses the folder. It sends the manifest to the
others, and each process keeps its own copy up to date.
"""

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

import jax

from tskd_jax import __version__
from tskd_jax.errors import WorkdirError
from tskd_jax.machine import devices, hosts
from tskd_jax.run import checkpoints, files, lock

FORMAT = 2  # version of the manifest and of the data that it describes
OWN_FILES = ("lock", ".config.json.*partial")  # patterns; left by a run killed at its start
TABLES = ("stages", "checkpoints", "parts", "partial_seconds", "begun")  # of the manifest
KEY_DIGITS = 12  # leading digits of a stage's key in the names of folders
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco")


class Folder:
    """One run's folder, locked until `close`.

    Args:
      path: the folder; created if it does not exist.
      config: everything that determines the run's results, as plain data for JSON.
      report: called with a line about each damaged file.

    Attributes:
      path: the folder.
      manifest: the contents of `manifest.json`; `write_manifest` saves it.

    Raises:
      WorkdirError: the folder belongs to another config, process or format, holds no run, or
        cannot be written.
    """

    def __init__(self, path: Path, config: dict[str, Any], report: Callable[[str], None]):
        self.path = path
        self._report = report
        self._first = hosts.is_first()
        self._lock: IO[str] | None = None
        self._made: list[Path] = []
        self.manifest: dict[str, Any] = hosts.from_first(lambda: self._claim(config))

    def write_manifest(self) -> None:
        """Write the manifest with its checksum, and its copy.

        Its `machines` are those that have worked on the run, the last one last: this one is added
        as soon as it saves something. A process that only loads what is there writes no manifest.
        """
        if self._first:
            this, known = this_machine(), self.manifest.get("machines", [])
            self.manifest["machines"] = [*(one for one in known if one != this), this]
            files.write_sealed(self.path / "manifest.json", self.manifest)

    def remove(self, path: Path) -> None:
        """Remove a folder if it exists, and its parent if that is then empty."""
        if self._first:
            shutil.rmtree(path, ignore_errors=True)
            with suppress(OSError):
                path.parent.rmdir()

    def close(self) -> None:
        """Release the lock. If the run has saved nothing, remove what this process created."""
        if self._made and self._is_empty():
            self._unmake()
        elif self._lock is not None:
            self._lock.close()

    def _is_empty(self) -> bool:
        """Whether the folder holds only the files that a run starts with."""
        return all(path.name == "config.json" or _is_own(path) for path in self.path.glob("*"))

    def _claim(self, config: dict[str, Any]) -> dict[str, Any]:
        path = self.path
        self._made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            files.make_folder(path)
            _check_that_it_is_a_run(path)
            self._hold_lock()
            new = not (path / "config.json").exists()
            manifest = _claimed_manifest(path, config, self._report)
            if new:
                self._made.insert(0, path / "config.json")
            _sweep(path, manifest)
        except OSError as error:
            self._unmake()
            raise WorkdirError(_unusable(path, error)) from error
        except WorkdirError:
            self._unmake()
            raise
        return manifest

    def _hold_lock(self) -> None:
        path = self.path / "lock"
        new = not path.exists()
        self._lock = lock.hold(path)
        if new:
            self._made.insert(0, path)

    def _unmake(self) -> None:
        """Remove what this process created, except non-empty folders; release the lock."""
        for path in self._made:
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if self._lock is not None:
            self._lock.close()


def this_machine() -> dict[str, Any]:
    """The `versions` and the `device` with which this process computes."""
    versions = {"python": platform.python_version(), "tskd_jax": __version__}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "device": f"{jax.default_backend()}: {devices.described()}"}


def check(path: Path, config: dict[str, Any]) -> None:
    """Check, without writing anything, that a run with this config may use a folder.

    Raises:
      WorkdirError: the folder belongs to another config or format, or holds no run.
    """
    try:
        if path.exists():
            _check_that_it_is_a_run(path)
            manifest, _ = _known_manifest(path)
            _unwritten_config(path, json.loads(files.to_json(config)), manifest)
    except OSError as error:
        raise WorkdirError(_unusable(path, error)) from error


def folder_name(name: str, key: str) -> str:
    """The folder name of a stage, or of a training or the parts in it."""
    return f"{name}-{key[:KEY_DIGITS]}"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of another run's folder; empty if missing, damaged or of another format."""
    manifest, _ = files.read_sealed(path / "manifest.json")
    return manifest if manifest and manifest.get("format") == FORMAT else {}


def differences(left: dict[str, Any], right: dict[str, Any], prefix: str = "") -> Sequence[str]:
    """Names of the fields in which two configs (as plain dicts) differ."""
    found = []
    for key in sorted(left.keys() | right.keys()):
        a, b = left.get(key), right.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(f"{prefix}{key}")
    return found


def _unusable(path: Path, error: OSError) -> str:
    return f"{path}: cannot be used ({checkpoints.reason(error)}); choose another --workdir"


def _check_that_it_is_a_run(path: Path) -> None:
    """Refuse a folder that is neither empty nor a run's folder."""
    if any((path / name).exists() for name in ("config.json", "manifest.json")):
        return
    if not all(map(_is_own, path.iterdir())):
        raise WorkdirError(f"{path} is not empty and holds no run; choose another --workdir")


def _is_own(file: Path) -> bool:
    return any(fnmatchcase(file.name, pattern) for pattern in OWN_FILES)


def _claimed_manifest(
    path: Path, config: dict[str, Any], report: Callable[[str], None]
) -> dict[str, Any]:
    """Read or create the manifest of a folder, and check or write its config.

    Raises:
      WorkdirError: the folder belongs to another config or format.
    """
    manifest, problem = _known_manifest(path)
    mine = json.loads(files.to_json(config))
    if why := _unwritten_config(path, mine, manifest):
        if why == _DAMAGED:
            report(f"{path / 'config.json'}: damaged; it was this run's, and is written again")
        files.write_json(path / "config.json", mine)
    if problem:
        report(f"{path}: {problem}")
    manifest = {"format": FORMAT, "config": files.json_digest(config)} | (manifest or {})
    return manifest | {table: manifest.get(table, {}) for table in TABLES}


def _known_manifest(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """As `files.read_sealed`; raises WorkdirError for the manifest of another format."""
    manifest, problem = files.read_sealed(path / "manifest.json")
    if manifest is not None and manifest.get("format") != FORMAT:
        raise WorkdirError(
            f"{path} holds a run that was made by an earlier version of tskd-jax; choose another "
            "--workdir"
        )
    return manifest, problem


_MISSING, _DAMAGED = "missing", "damaged"


def _unwritten_config(path: Path, mine: dict[str, Any], manifest: dict[str, Any] | None) -> str:
    """Compare a run's config with that of its folder.

    Returns:
      Why `config.json` must be written: it is `_MISSING`, or `_DAMAGED`; "" if it is there.

    Raises:
      WorkdirError: the folder belongs to another config.
    """
    known = manifest and manifest.get("config")
    file = path / "config.json"
    theirs = _read_config(file)
    if known and known != files.json_digest(theirs) and known == files.json_digest(mine):
        return _DAMAGED
    if theirs is None and known:
        raise WorkdirError(
            f"{file} is damaged, and was not this config; choose another --workdir or remove "
            "this one"
        )
    if theirs is None:
        return _MISSING
    if fields := differences(theirs, mine):
        raise WorkdirError(
            f"{path} holds a run with another config; it differs in {', '.join(fields)}; "
            "choose another --workdir or remove this one"
        )
    return ""


def _read_config(path: Path) -> dict[str, Any] | None:
    """Read a config; None if the file is missing or is not a JSON object."""
    try:
        config = json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def _sweep(path: Path, manifest: dict[str, Any]) -> None:
    """Remove files and folders that a killed process left incomplete or had no time to remove."""
    for place in ("", "*/", "students/*/"):
        for file in path.glob(f"{place}.*.partial"):
            if file.is_file():
                file.unlink(missing_ok=True)
    left = list(path.glob("stages/.*.partial"))
    for place, table in (("training", "checkpoints"), ("parts", "parts")):
        known = {folder_name(name, key) for key, names in manifest[table].items() for name in names}
        left += [folder for folder in path.glob(f"{place}/*") if folder.name not in known]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
