"""report.html: a self-contained report of a run, made from its folder alone.

It loads nothing from elsewhere and needs no scripts. Made again, it is the same, byte for byte.
"""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.report import charts, figures, material, table
from tskd_jax.report.charts import Chart, Curves
from tskd_jax.report.published import table1
from tskd_jax.report.summary import simulated, unit
from tskd_jax.run import files
from tskd_jax.run.metrics import read_rows

FILE = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
POINTS = 150  # of a curve
MOST_PANELS = 12  # of curves
FILMS = "films"  # where `tskd-jax record` writes films in a run's folder


def write(folder: Path, summary: dict[str, Any]) -> Path:
    """Write `report.html` into a run's folder; an old one is replaced only by a complete file.

    Args:
      folder: the folder of a finished run.
      summary: its `summary.json`.

    Returns:
      The path of the report.
    """
    with files.replacing(folder / FILE) as path:
        path.write_text(page(folder, summary), encoding="utf-8")
    return folder / FILE


def page(folder: Path, summary: dict[str, Any]) -> str:
    """Render the report of a run as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html").render(contents(folder, summary))


def contents(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """The variables of the page's template."""
    subject = summary["subject"]
    title = summary["methods"][subject]["title"]
    rows = _rows(summary)
    return {
        "dataset": summary["dataset"],
        "simulated": simulated(summary),
        "unit": unit(summary),
        "task": summary.get("task") or {},
        "subject": title,
        "score": table.score_text(summary["scores"][subject]).strip(),
        "seeds": len(summary["config"]["seeds"]),
        "rows": rows,
        "offline": [(name, texts) for name, _, texts in table.offline_columns(summary)],
        "published": any(row["published"] for row in rows),
        "agreement": {
            name: found for name, found in summary.get("agreement", {}).items() if found is not None
        },
        "student": summary.get("student"),
        "sections": [section for section in _sections(folder, summary) if section["charts"]],
        "checks": _simulator_checks(summary),
        "rewards": _reward_error(summary),
        "films": _films(folder),
        "versions": summary["versions"],
        "device": summary["device"],
        "config": json.dumps(summary["config"], indent=2, sort_keys=True),
    }


def _rows(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the score table."""
    found = []
    dataset = "" if summary["config"]["dataset"]["path"] else summary["dataset"]["name"]
    for name, score in summary["scores"].items():
        method = summary["methods"][name]
        theirs = table1(dataset, name)
        low, high = score["interval"]
        found.append(
            {
                "name": name,
                "title": method["title"],
                "score": table.score_text(score).strip(),
                "middle": f"{score['interquartile_mean']:.1f}",
                "interval": f"{low:.1f} … {high:.1f}",
                "gain": table.gain_text(name, summary),
                "published": _published_text(theirs) if theirs else "",
                "parameters": f"{method['parameters']:,}",
                "seconds": f"{method['seconds']:,.0f}",
                "is_subject": name == summary["subject"],
            }
        )
    return found


def _published_text(theirs: Any) -> str:
    return f"{theirs.mean:g}" + (f" ± {theirs.stderr:g}" if theirs.stderr is not None else "")


def _sections(folder: Path, summary: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The sections in the order of the page; the caller drops those without charts."""
    kept = material.read(folder)
    imagined = figures.first_dataset(folder, "imagined")
    yield _section("Scores", [charts.scores(summary)])
    pictures = [charts.imagination(kept, imagined)] if kept and imagined is not None else []
    yield _section("Imagined against recorded", pictures)
    stitched = _stitched(summary)
    pictures = [charts.moves(stitched["moves"], stitched["edges_unique"])] if stitched else []
    if "before_0" in kept:
        pictures.append(charts.examples(kept))
    yield _section("Stitches", pictures)
    yield _section("What the students imitate", [charts.kept(kept)] if kept else [])
    curves = read_curves(folder / "metrics.csv")
    yield _section("Training", [charts.losses(curves)] if curves else [])
    yield _section("Where the time went", [charts.time(summary)])


def _section(title: str, found: list[Chart]) -> dict[str, Any]:
    return {"title": title, "id": title.lower().replace(" ", "-"), "charts": found}


def _stitched(summary: dict[str, Any]) -> dict[str, Any] | None:
    """Metrics of the first epoch of the subject's stitching; None if nothing was stitched."""
    found = summary["stages"].get(f"stitching.{summary['subject']}.0", {})
    return found if found.get("edges_unique") and "moves" in found else None


def _simulator_checks(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(name, error, error of predicting no movement, transitions) of checks in the simulator."""
    found = summary["stages"].get("check_in_simulator", {})
    return [
        (
            name,
            f"{one['error']:.3f}",
            f"{one['nothing_moves']:.3f}",
            f"{one['transitions']:,.0f}",
        )
        for name, one in found.items()
        if isinstance(one, dict) and "error" in one
    ]


def _reward_error(summary: dict[str, Any]) -> dict[str, str] | None:
    """DDR-II's error on held-out transitions (Equation 12), and the error of guessing the mean."""
    found = summary["stages"].get("reward_generator", {})
    if "held_out_mse" not in found:
        return None
    error, variance = found["held_out_mse"], found["held_out_reward_variance"]
    return {"mse": f"{error:.4g}", "variance": f"{variance:.4g}"}


def read_curves(path: Path) -> Curves:
    """Read the loss curves in a run's metrics, thinned to `POINTS`, by group of trainings."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for stage, key, step, metric, value in read_rows(path) if path.exists() else ():
        if metric == "loss":
            line = found.setdefault(stage.partition(".")[0], {}).setdefault(key, [])
            line.append((int(step), float(value)))
    curves: Curves = {}
    for group, lines in list(found.items())[:MOST_PANELS]:
        for line in lines.values():
            # A training that was killed has logged some updates twice: the last value counts.
            steps, loss = map(np.array, zip(*sorted(dict(line).items()), strict=True))
            if np.isfinite(loss).all():
                thin = np.unique(np.linspace(0, len(steps) - 1, POINTS).astype(int))
                curves.setdefault(group, []).append((steps[thin], loss[thin]))
    return curves


def _films(folder: Path) -> list[dict[str, str]]:
    """The films of `tskd-jax record`, each embedded as a data URL."""
    return [
        {
            "name": path.stem.replace("_", " "),
            "data": f"data:image/webp;base64,{base64.b64encode(path.read_bytes()).decode()}",
        }
        for path in sorted((folder / FILMS).glob("*.webp"))
    ]
