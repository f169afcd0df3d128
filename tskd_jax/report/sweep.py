"""The table and the pictures of a sweep, from what its finished runs have left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from tskd_jax.run import files

RESULTS = ("score", "stderr", "interquartile_mean", "low", "high", "seconds")


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
    try:
        summary = json.loads((folder / name_of(point) / "summary.json").read_text())
    except (FileNotFoundError, ValueError):
        return row | dict.fromkeys(RESULTS, "")
    if files.json_digest(summary["config"]) != files.json_digest(config):
        return row | dict.fromkeys(RESULTS, "")
    score = summary["scores"][summary["subject"]]
    # What a run has taken over was another one's work.
    own = sum(
        spent for name, spent in summary["seconds"].items() if "from" not in summary["stages"][name]
    )
    low, high = score["interval"]
    results = (score["mean"], score["stderr"], score["interquartile_mean"], low, high, own)
    return row | dict(zip(RESULTS, results, strict=True))


def is_filled(row: dict[str, Any]) -> bool:
    """Whether the run of that row is finished."""
    return row["score"] != ""


def row_text(row: dict[str, Any]) -> str:
    """A row on one line."""
    return "  ".join(f"{name} {files.rounded(value)}" for name, value in row.items())


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write sweep.csv, with the device and JAX's version in every row."""
    devices = f"{jax.devices()[0].device_kind} × {jax.device_count()}"
    facts = {"device": devices, "jax": jax.__version__}
    files.write_csv(folder / "sweep.csv", [row | facts for row in rows])


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
