"""config.json and manifest.json: whose folder it is, and what in it can be believed."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tskd_jax.config import differences, from_final, identity
from tskd_jax.errors import WorkdirError
from tskd_jax.machine.types import Config
from tskd_jax.methods.inputs import inputs, same_fields
from tskd_jax.run import files

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


def results_before(manifest: dict[str, Any], name: str) -> str:
    """What the results were that were there before that one: it is believed after the same.

    A result that is computed again keeps its place, and so do scripts that ask for some stages
    only: what they leave out is before a result as it was when that was made.
    """
    sha = ""
    for other, record in manifest["results"].items():
        if other == name or name.startswith(f"{other}."):
            break
        sha = hashlib.sha256(f"{sha} {other} {record['content']}".encode()).hexdigest()
    return sha


def adopt(manifest: dict[str, Any], config: Config, folder: Path) -> dict[str, Path]:
    """Note in a manifest what can be taken over from another run, and give the places of it.

    Args:
      manifest: is added to.
      config: of that run.
      folder: of the other run; nothing is taken where its manifest or config is damaged.

    Returns:
      stage -> the folder of its result.
    """
    other, _ = files.read_sealed(folder / "manifest.json")
    plain = _read(folder / "config.json")
    if other is None or plain is None or files.json_digest(plain) != other.get("config"):
        return {}
    theirs, places = from_final(plain), {}
    mine = manifest["results"]
    for name, record in other["results"].items():
        fresh = name not in mine and record["after"] == results_before(other, name)
        fresh &= (folder / "stages" / name).is_dir()
        contents = [
            [results.get(before, {}).get("content") for before in inputs(name)[1]]
            for results in (mine, other["results"])
        ]
        if fresh and contents[0] == contents[1] and same_fields(name, config, theirs):
            figures = {"from": folder.name} | other["stages"][name]
            mine[name] = record | {"after": results_before(manifest, name)}
            manifest["stages"][name] = figures
            places[name] = folder / "stages" / name
    return places


def _read(path: Path) -> dict[str, Any] | None:
    """The config of a folder; None where there is none, or it cannot be read as one."""
    try:
        config = json.loads(path.read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None
