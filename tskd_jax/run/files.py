"""Atomically written files, and JSON files with a checksum."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block ends without an error.

    The content is flushed to the disk before the file is renamed: a power failure leaves the old
    file or the new one. The temporary name is the process's own, so that of two that write the same
    file the last one wins.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        to_disk(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, and flush to the disk that they are there."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        with suppress(PermissionError):  # of a folder that may be entered, but not read
            to_disk(folder.parent)


def to_disk(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share(source: Path, target: Path) -> None:
    """Replace the folder `target` by one with the files of `source`, hard-linked or else copied."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # some file systems have no hard links
            shutil.copy2(source, target)

    shutil.rmtree(target, ignore_errors=True)
    make_folder(target.parent)
    shutil.copytree(source, target, copy_function=link)
    for path in (*target.rglob("*"), target, target.parent):
        to_disk(path)


def write_csv(path: Path, rows: Sequence[dict[str, Any]], digits: int | None = 6) -> None:
    """Write a CSV file atomically.

    Args:
      path: path of the file.
      rows: at least one row; all have the same columns.
      digits: significant digits of floats; None: all.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: rounded(value, digits) for name, value in row.items()})


def rounded(value: Any, digits: int | None = 6) -> Any:
    """A float as text with `digits` significant digits; any other value unchanged."""
    return f"{value:.{digits}g}" if isinstance(value, float) and digits else value


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file atomically; arrays become lists."""
    with replacing(path) as temporary:
        temporary.write_text(to_json(content) + "\n")


def to_json(content: Any) -> str:
    """Convert to JSON text, with arrays as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise TypeError(type(value))

    return json.dumps(content, indent=2, default=plain)


def json_digest(content: Any) -> str:
    """SHA-256 of `content` as it is after a round trip through a JSON file."""
    content = json.loads(to_json(content))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file with its own checksum, and a copy in case the file is damaged.

    The copy is written second, so it may be one version behind.
    """
    content = {key: value for key, value in content.items() if key != _SEAL}
    for place in (path, _twin(path)):
        write_json(place, content | {_SEAL: json_digest(content)})


def read_sealed(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Read what `write_sealed` wrote.

    Returns:
      (the content, or None if both files are damaged or missing; a line about the damage, or None
      if there is none).
    """
    if not path.exists() and not _twin(path).exists():
        return None, None
    content = _read_seal(path)
    if content is not None:
        return content, None
    content = _read_seal(_twin(path))
    if content is not None:
        return content, f"{path.name} is damaged; its copy {_twin(path).name} is used"
    return None, f"{path.name} and its copy are damaged; all is done again"


_SEAL = "sha256 of the rest"


def _twin(path: Path) -> Path:
    return path.with_name(f"{path.stem}.copy{path.suffix}")


def _read_seal(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text())
        seal = content.pop(_SEAL)
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return None
    return content if seal == json_digest(content) else None
