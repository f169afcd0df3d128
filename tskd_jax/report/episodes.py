"""Results of students in episodes of an environment: a table, and a file with every return."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tskd_jax.envs.tasks import normalized_score
from tskd_jax.evaluation.scores import standard_error, summarize
from tskd_jax.run import files

COLUMNS = "{}  {:>16}   {:>27}   {:>8}   {:>8}   {:>8}"


@dataclass(frozen=True)
class Episodes:
    """The same E episodes, played by each of S students.

    Attributes:
      environment: the environment's name.
      students: (S,) names.
      seeds: (E,) seeds of the start states.
      returns, lengths: (S, E).
      ends: returns of the random policy and of the expert; None if they are not defined.
    """

    environment: str
    students: Sequence[str]
    seeds: Sequence[int]
    returns: np.ndarray
    lengths: np.ndarray
    ends: tuple[float | None, float | None]

    @property
    def scores(self) -> np.ndarray | None:
        """(S, E) normalised scores; None if `ends` are not defined."""
        return None if None in self.ends else normalized_score(*self.ends, self.returns)


def write(played: Episodes, path: Path) -> None:
    """Write every return: CSV has a row per episode, npz has arrays and the labels of both axes.

    Args:
      played: the episodes.
      path: FILE.csv or FILE.npz; an existing file is replaced only when the new one is complete.
    """
    arrays = {"return": played.returns, "length": played.lengths}
    if played.scores is not None:
        arrays["score"] = played.scores
    if path.suffix.lower() == ".npz":
        names = {"student": np.array(played.students), "seed": np.array(played.seeds)}
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **names, **arrays)  # pyright: ignore[reportArgumentType]
        return
    rows = [
        {"student": student, "seed": seed, "episode": e}
        | {name: array[s, e].item() for name, array in arrays.items()}
        for s, student in enumerate(played.students)
        for e, seed in enumerate(played.seeds)
    ]
    files.write_csv(path, rows, digits=None)


def table(played: Episodes) -> str:
    """Format a table: a line per student, if there are several, and one for all of them.

    The standard error is over episodes, but over students in the line for several students.
    Intervals are those of `evaluation.statistics`.
    """
    students, episodes = played.returns.shape
    rows = [("return", played.returns), ("score", played.scores), ("length", played.lengths)]
    shown = "return" if played.scores is None else "score"
    several = f"{students} students × " if students > 1 else ""
    count = f"{several}{episodes} episode{'s' if episodes > 1 else ''}"
    folder, names = _shortened(played.students)
    where = f", of {folder}" if students > 1 and folder else ""
    lines = ["", f"{played.environment}: {count}{where}", ""]
    width = max(len("length"), *map(len, names)) if students > 1 else len("length")

    def line(name: str, *texts: str) -> str:
        return COLUMNS.format(f"{name:<{width}}", *texts)

    titles = ("mean ± error", "middle half (95%)", "min", "median", "max")
    if students > 1:
        values = dict(rows)[shown]
        lines.append(line(shown, *titles))
        lines += [line(name, *_texts(values[s : s + 1])) for s, name in enumerate(names)]
        lines += ["", line("all", *titles)]
    else:
        lines.append(line("", *titles))
    lines += [line(name, *_texts(values)) for name, values in rows if values is not None]
    return "\n".join(lines)


def _shortened(students: Sequence[str]) -> tuple[str, list[str]]:
    """(the common folder of all students, their names relative to it)."""
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(name)) for name in students])
    names = [os.path.relpath(os.path.abspath(name), folder) for name in students]
    return os.path.relpath(folder) if not os.path.isabs(students[0]) else folder, names


def _texts(values: np.ndarray) -> list[str]:
    """Format the columns of (S, E) numbers."""
    found = summarize(values.astype(np.float64))
    over = values.mean(1) if len(values) > 1 else values[0]
    error = f"± {standard_error(over):<5.1f}" if len(over) > 1 else " " * 7
    interval = " ({:.1f} … {:.1f})".format(*found["interval"]) if values.size > 1 else ""
    return [
        f"{found['mean']:.1f} {error}",
        f"{found['interquartile_mean']:.1f}{interval}",
        *(f"{end:.1f}" for end in (values.min(), np.median(values), values.max())),
    ]
