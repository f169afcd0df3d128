"""The table and the figures of a sweep, from the folders of its finished runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tskd_jax.run import files

RESULTS = ("score", "stderr", "interquartile_mean", "low", "high", "seconds")
FACTS = ("device", "jax")  # where the run was executed


def name_of(point: dict[str, Any]) -> str:
    """The name of a run's folder, from its point in the grid."""
    return ",".join(f"{field}={value}" for field, value in point.items()).replace("/", "_")


def row_of(point: dict[str, Any], config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the row of a run; its results are empty if it is not finished.

    Args:
      point: field -> value.
      config: the run's config, as nested dicts.
      folder: the sweep's folder.
    """
    row = point | {"seeds": len(config["seeds"])}
    summary = finished(folder / name_of(point), config)
    if summary is None:
        return row | dict.fromkeys((*RESULTS, *FACTS), "")
    score = summary["scores"][summary["subject"]]
    # Results taken over from another run cost this run no time.
    own = sum(
        spent for name, spent in summary["seconds"].items() if "from" not in summary["stages"][name]
    )
    low, high = score["interval"]
    results = (score["mean"], score["stderr"], score["interquartile_mean"], low, high, own)
    facts = (summary["device"].partition(": ")[2], summary["versions"]["jax"])
    return row | dict(zip((*RESULTS, *FACTS), (*results, *facts), strict=True))


def finished(run: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """Read the summary of a run; None if it is not finished, or has another config."""
    try:
        summary = json.loads((run / "summary.json").read_text())
        same = files.json_digest(summary["config"]) == files.json_digest(config)
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return summary if same else None


def is_filled(row: dict[str, Any]) -> bool:
    """Whether the run of a row is finished."""
    return row["score"] != ""


def row_text(row: dict[str, Any]) -> str:
    """Format a row as one line."""
    shown = {name: value for name, value in row.items() if name not in FACTS}
    return "  ".join(f"{name} {files.rounded(value)}" for name, value in shown.items())


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write sweep.csv, with the devices and the JAX version of each run."""
    files.write_csv(folder / "sweep.csv", rows)


def plot(rows: Sequence[dict[str, Any]], fields: Sequence[str], folder: Path) -> None:
    """Draw FIELD.png for each field: the score over its values, a line per value of the others."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    from matplotlib import pyplot as plt

    for field in fields:
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in filter(is_filled, rows):
            others = {name: row[name] for name in fields if name != field}
            lines.setdefault(name_of(others), []).append(row)
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for label, line in lines.items():
            # Numbers on a numeric axis, anything else as categories.
            x = [
                row[field] if type(row[field]) in (int, float) else str(row[field]) for row in line
            ]
            y, errors = ([row[name] for row in line] for name in ("score", "stderr"))
            axes.errorbar(x, y, errors, fmt="o-", ms=4, capsize=3, label=label or None)
        if len(fields) > 1:
            axes.legend(fontsize="small")
        axes.set_xlabel(field)
        axes.set_ylabel("score (mean ± standard error)")  # normalised, where the task has that
        axes.spines[["top", "right"]].set_visible(False)
        with files.replacing(folder / f"{field}.png") as path:
            figure.savefig(path, dpi=130, format="png")
        plt.close(figure)
