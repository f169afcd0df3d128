"""config.json and manifest.json: whose folder it is, and what in it can be believed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tskd_jax import files
from tskd_jax.config import differences, identity
from tskd_jax.errors import WorkdirError
from tskd_jax.types import Config

OWN_FILES = ("lock", ".config.json.partial")  # what a run leaves that was killed while it began
PARTS = ("stages", "results", "checkpoints", "parts", "partial_seconds")


def check_that_it_is_a_run(folder: Path) -> None:
    """Refuse a folder that is neither empty nor a run's.

    Raises:
      WorkdirError: something else is in it.
    """
    if any((folder / name).exists() for name in ("config.json", "manifest.json")):
        return
    if any(path.name not in OWN_FILES for path in folder.iterdir()):
        raise WorkdirError(f"{folder} is not empty and holds no run; choose another --workdir")


def claim(folder: Path, config: Config, say: Callable[[str], None]) -> dict[str, Any]:
    """Take a folder for a run of that config, and give its manifest.

    Args:
      folder: new, or of an earlier process.
      config: is written into a new folder.
      say: told what was damaged.

    Raises:
      WorkdirError: the folder is of another config.
    """
    mine = json.loads(files.to_json(identity(config)))
    path = folder / "config.json"
    manifest, problem = files.read_sealed(folder / "manifest.json")
    known = manifest and manifest.get("config")
    theirs = _read(path)
    if known and known != files.json_digest(theirs) and known == files.json_digest(mine):
        say(f"{path}: damaged; it was this run's, and is written again")
        files.write_json(path, mine)
    elif theirs is None and known:
        raise WorkdirError(
            f"{path} is damaged, and was not this config; choose another --workdir or remove "
            "this one"
        )
    elif theirs is None:
        files.write_json(path, mine)
    elif fields := differences(theirs, mine):
        raise WorkdirError(
            f"{folder} holds a run with another config; it differs in {', '.join(fields)}; "
            "choose another --workdir or remove this one"
        )
    if problem:
        say(f"{folder}: {problem}")
    manifest = {"config": files.json_digest(mine)} | (manifest or {})
    return manifest | {part: manifest.get(part, {}) for part in PARTS}


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, sealed and with its copy."""
    files.write_sealed(folder / "manifest.json", manifest)


def _read(path: Path) -> dict[str, Any] | None:
    """The config of a folder; None where there is none, or it cannot be read as one."""
    try:
        config = json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None
