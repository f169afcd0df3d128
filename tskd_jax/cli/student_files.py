"""Finds the student files that a command line names, and the tasks of their runs."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tskd_jax.errors import ConfigError, PolicyError, WorkdirError
from tskd_jax.policy import Policy


def find(words: Sequence[str]) -> list[Path]:
    """Find the files of students.

    Args:
      words: files, folders of runs (their `student.npz`), folders of students, or patterns of these
        (`'runs/*/student.npz'`).

    Raises:
      ConfigError: a pattern matches nothing, or a student is named twice.
      PolicyError: a file or folder does not exist, or a folder has no student.
    """
    found = [path for word in words for place in _places(word) for path in _in_place(place)]
    seen: dict[Path, Path] = {}
    for path in found:
        if path.resolve() in seen:
            raise ConfigError(f"{path}: given twice")
        seen[path.resolve()] = path
    return found


def student_file(word: str) -> Path:
    """The single student that a word names: a file, or the `student.npz` of a run's folder.

    Raises:
      ConfigError: the folder has no `student.npz`.
    """
    path = Path(os.path.expanduser(word))
    if not path.is_dir():
        return path
    if not (path / "student.npz").is_file():
        raise ConfigError(
            f"{path}: holds no student.npz; give the folder of a finished run, or a student's file"
        )
    return path / "student.npz"


def _places(word: str) -> list[Path]:
    path = Path(os.path.expanduser(word))
    if path.exists() or not glob.has_magic(word):
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)), key=_natural)
    if not found:
        raise ConfigError(f"{word}: no file or folder fits this pattern")
    return found


def _in_place(place: Path) -> list[Path]:
    """The file itself, or the students in a folder."""
    if not place.exists():
        raise PolicyError(f"{place}: no such file or folder")
    if not place.is_dir():
        return [place]
    if (place / "student.npz").exists():
        return [place / "student.npz"]
    if _is_run(place):
        raise PolicyError(
            f"{place}: a run without student.npz: it is not finished, or its last method plans "
            "instead of leaving a student"
        )
    if found := sorted(place.glob("*.npz"), key=_natural):
        return found
    inside = sorted({str(path.parent) for path in place.glob("*/*.npz")})
    raise PolicyError(
        f"{place}: holds no student" + (f"; name one of {', '.join(inside)}" if inside else "")
    )


def _natural(path: Path) -> list[Any]:
    """A sort key that puts seed_10 after seed_9."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def task_of(student: Path, policy: Policy) -> dict[str, Any]:
    """The known facts of a student's task, from the run in whose folder it is, or its contract.

    Returns:
      As from `report.summary.task_facts`, or `gymnasium_id` alone, which is "" if unknown.

    Raises:
      WorkdirError: the run's files are damaged, and no contract names an environment.
    """
    from tskd_jax.report import summary

    problem = None
    # RUN/student.npz or RUN/students/METHOD/seed_N.npz
    for folder in student.absolute().parents[:3]:
        if _is_run(folder):
            try:
                return summary.task_of(folder)
            except WorkdirError as error:  # or these are another program's files of these names
                problem = problem or error
    environment = policy.contract.environment if policy.contract else ""
    if problem and not environment:
        raise WorkdirError(f"{problem}; give --env=ID") from problem
    return {"gymnasium_id": environment}


def _is_run(folder: Path) -> bool:
    """Whether a folder has the files that a run begins with."""
    return all((folder / name).exists() for name in ("config.json", "manifest.json"))
