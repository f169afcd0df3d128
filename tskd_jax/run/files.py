"""Files that are whole or not there, and JSON that notices when it was altered."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends without an error.

    What was written is on the disk before the name is: a power failure leaves the old file or the
    new one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        yield temporary
        to_disk(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def to_disk(path: Path) -> None:
    """Force a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def share(source: Path, target: Path) -> None:
    """Put the files of one folder into another of that name: the same files, or copies of them."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # not every file system can
            shutil.copy2(source, target)

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, copy_function=link)


def write_csv(path: Path, rows: Sequence[dict[str, Any]], digits: int | None = 6) -> None:
    """Write a CSV file, whole or not at all.

    Args:
      path: of the file.
      rows: with the same columns.
      digits: significant ones of numbers that are not whole; None: all.
    """
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: rounded(value, digits) for name, value in row.items()})


def rounded(value: Any, digits: int | None = 6) -> Any:
    """A number that is not whole as text of so many significant digits; all else as it is."""
    return f"{value:.{digits}g}" if isinstance(value, float) and digits else value


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all; arrays become lists."""
    with replacing(path) as temporary:
        temporary.write_text(to_json(content) + "\n")


def to_json(content: Any) -> str:
    """JSON with arrays as lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        raise TypeError(type(value))

    return json.dumps(content, indent=2, default=plain)


def json_digest(content: Any) -> str:
    """SHA-256 of what `content` is after a round trip through a JSON file."""
    content = json.loads(to_json(content))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that carries its own checksum, and a twin for the case that it is damaged.

    The twin is written second and may be one step behind.
    """
    content = {key: value for key, value in content.items() if key != _SEAL}
    for place in (path, _twin(path)):
        write_json(place, content | {_SEAL: json_digest(content)})


def read_sealed(path: Path) -> tuple[dict[str, Any] | None, str | None]:
    """What `write_sealed` wrote.

    Returns:
      (the content, or None where neither file can be believed or there is none; a line about the
      damage, or None where there is none).
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
