"""The table and the pictures of a sweep, from what its finished runs have left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tskd_jax.run import files

RESULTS = ("score", "stderr", "interquartile_mean", "low", "high", "seconds")
FACTS = ("device", "jax")  # on what the run was made


def name_of(point: dict[str, Any]) -> str:
    """The name of a run's folder."""
    return ",".join(f"{field}={value}" for field, value in point.items()).replace("/", "_")


def row_of(point: dict[str, Any], config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row of a run; its results are empty where it is not finished.

    Args:
      point: field -> value.
      config: of the run, as nested dicts.
      folder: of the sweep.
    """
    row = point | {"seeds": len(config["seeds"])}
    summary = finished(folder / name_of(point), config)
    if summary is None:
        return row | dict.fromkeys((*RESULTS, *FACTS), "")
    score = summary["scores"][summary["subject"]]
    # What a run has taken over was another one's work.
    own = sum(
        spent for name, spent in summary["seconds"].items() if "from" not in summary["stages"][name]
    )
    low, high = score["interval"]
    results = (score["mean"], score["stderr"], score["interquartile_mean"], low, high, own)
    facts = (summary["device"].partition(": ")[2], summary["versions"]["jax"])
    return row | dict(zip((*RESULTS, *FACTS), (*results, *facts), strict=True))


def finished(run: Path, config: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of a run's folder; None where it is not finished, or is of another config."""
    try:
        summary = json.loads((run / "summary.json").read_text())
    except (FileNotFoundError, ValueError):
        return None
    same = files.json_digest(summary["config"]) == files.json_digest(config)
    return summary if same else None


def is_filled(row: dict[str, Any]) -> bool:
    """Whether the run of that row is finished."""
    return row["score"] != ""


def row_text(row: dict[str, Any]) -> str:
    """A row on one line."""
    shown = {name: value for name, value in row.items() if name not in FACTS}
    return "  ".join(f"{name} {files.rounded(value)}" for name, value in shown.items())


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write sweep.csv; a row says on which devices and with which JAX its run was made."""
    files.write_csv(folder / "sweep.csv", rows)


def plot(rows: Sequence[dict[str, Any]], fields: Sequence[str], folder: Path) -> None:
    """Draw FIELD.png for each field: the score over it, a line for each value of the others."""
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
            # Numbers are put where they are, words side by side.
            x = [
                row[field] if type(row[field]) in (int, float) else str(row[field]) for row in line
            ]
            y, errors = ([row[name] for row in line] for name in ("score", "stderr"))
            axes.errorbar(x, y, errors, fmt="o-", ms=4, capsize=3, label=label or None)
        if len(fields) > 1:
            axes.legend(fontsize="small")
        axes.set_xlabel(field)
        axes.set_ylabel("normalised score (mean ± standard error)")
        axes.spines[["top", "right"]].set_visible(False)
        with files.replacing(folder / f"{field}.png") as path:
            figure.savefig(path, dpi=130, format="png")
        plt.close(figure)
