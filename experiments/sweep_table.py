"""The table and the pictures of a sweep, from what its finished runs have left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tables

from tskd_jax.config import identity
from tskd_jax.machine.types import Config
from tskd_jax.run import files

RESULTS = ("score", "stderr", "interquartile_mean", "low", "high", "seconds")


def name_of(point: dict[str, Any]) -> str:
    """The name of a run's folder."""
    return ",".join(f"{field}={value}" for field, value in point.items()).replace("/", "_")


def row_of(point: dict[str, Any], config: Config, folder: Path) -> dict[str, Any]:
    """The row of a run; its results are empty where it is not finished.

    Args:
      point: field -> value.
      config: final.
      folder: of the sweep.
    """
    row = point | {"seeds": len(config.seeds)}
    try:
        summary = json.loads((folder / name_of(point) / "summary.json").read_text())
    except (FileNotFoundError, ValueError):
        return row | dict.fromkeys(RESULTS, "")
    if files.json_digest(summary["config"]) != files.json_digest(identity(config)):
        return row | dict.fromkeys(RESULTS, "")
    score, seconds = summary["scores"]["tskd"], summary["seconds"]
    # What a run has taken over was another one's work.
    own = sum(spent for name, spent in seconds.items() if not _taken(summary, name))
    low, high = score["interval"]
    results = (score["mean"], score["stderr"], score["interquartile_mean"], low, high, own)
    return row | dict(zip(RESULTS, results, strict=True))


def _taken(summary: dict[str, Any], stage: str) -> bool:
    return "from" in (summary["dataset"] if stage == "dataset" else summary["stages"][stage])


def is_filled(row: dict[str, Any]) -> bool:
    """Whether the run of that row is finished."""
    return row["score"] != ""


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write sweep.csv."""
    tables.write(rows, str(folder), "sweep")


def plot(rows: Sequence[dict[str, Any]], fields: Sequence[str], folder: Path) -> None:
    """Draw FIELD.png for each field: the score over it, a line for each value of the others."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    for field in fields:
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in filter(is_filled, rows):
            others = {name: row[name] for name in fields if name != field}
            lines.setdefault(name_of(others), []).append(row)
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for label, line in lines.items():
            # Numbers are put where they are, words side by side.
            x = [
                row[field] if type(row[field]) in (int, float) else str(row[field]) for row in line
            ]
            y, errors = ([row[name] for row in line] for name in ("score", "stderr"))
            axes.errorbar(x, y, errors, fmt="o-", ms=4, capsize=3, label=label or None)
        if len(fields) > 1:
            axes.legend(fontsize="small")
        axes.set_xlabel(field)
        axes.set_ylabel("TSKD's normalised score (mean ± standard error)")
        axes.spines[["top", "right"]].set_visible(False)
        with files.replacing(folder / f"{field}.png") as path:
            figure.savefig(path, dpi=130, format="png")
        plt.close(figure)
