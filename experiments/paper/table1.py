"""The paper's Table 1, of any methods and datasets: mean ± standard error, and a 95% interval.

    python -m experiments.paper.table1 --datasets=hopper,walker2d:FILE.hdf5,… [--methods=bc,…]
        [--scale=quick] [--seeds=0,1,2,3,4] [--few=trajectory_transformer:2] [--name=NAME]

A dataset is an environment of ours (its own level), ENVIRONMENT:LEVEL, ENVIRONMENT:FILE, or a file
or D4RL's name that begins with the environment's. Each pair of dataset and method is a run in
WORKDIR/DATASET/METHOD: a missing one is made, a finished one is read, one that was killed goes on,
and what two of them have in common is made once. Writes NAME.md, NAME.csv and NAME.tex in
--results. As in the paper, a score at most 7% below the best of its row is bold, and an average at
most 5% below the best one is marked. The paper's own score stands beside ours only where the
dataset is D4RL's.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from experiments.paper.published import table1 as published
from experiments.tables import write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.cli.run import run
from tskd_jax.cli.sweep import changed, parse_values
from tskd_jax.config import UserConfig, finalize, make_config
from tskd_jax.envs.entries import TASKS
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.evaluation.scores import mean_interval
from tskd_jax.machine.signals import Request
from tskd_jax.methods import METHODS
from tskd_jax.presets import PRESETS
from tskd_jax.report import summary as summaries

DATASETS = flags.DEFINE_list("datasets", None, "See above.", required=True)
METHODS_SHOWN = flags.DEFINE_list("methods", list(METHODS), "Columns, in this order.")
SCALE = flags.DEFINE_enum("scale", "quick", list(PRESETS), "Preset of every run.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Of every method, but for --few.")
FEW = flags.DEFINE_list("few", [], "METHOD:COUNT, for methods that are too slow for all seeds.")
SET = flags.DEFINE_multi_string("set", [], "SECTION.FIELD=VALUE, of every run.")
WORKDIR = flags.DEFINE_string("workdir", "runs/table1", "The runs.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the scale.")
RESULTS = flags.DEFINE_string("results", "experiments/results/table1", "Folder.")

BOLD, MARKED = 0.93, 0.95  # of the best score in a row, of the best average
LEVELS = ("medium-expert", "medium-replay", "medium")  # each has an average of its own


class Dataset(NamedTuple):
    """A row of the table.

    Attributes:
      label: in the table, and of the runs' folder.
      environment: of ours.
      level: of the environment, or "".
      source: a file, or a name for `config.dataset.name`, or "".
    """

    label: str
    environment: str
    level: str = ""
    source: str = ""


def dataset(text: str) -> Dataset:
    """What one entry of --datasets means.

    Raises:
      ConfigError: no environment of ours goes with it.
    """
    environment, colon, rest = text.partition(":")
    if environment in TASKS:
        task = TASKS[environment]
        level = rest if colon else task.default_level
        if level in task.levels:
            return Dataset(f"{environment}-{level}", environment, level)
        return Dataset(Path(rest).stem, environment, source=rest)
    name = Path(text).stem.replace("-", "_")
    found = [known for known in TASKS if name.startswith(f"{known}_")]
    if not found:
        raise ConfigError(
            f"--datasets={text}: begins with none of {', '.join(TASKS)}; give ENVIRONMENT:FILE"
        )
    return Dataset(Path(text).stem, max(found, key=len), source=text)


def make(row: Dataset, method: str, seeds: tuple[int, ...]) -> UserConfig:
    """The config of one run."""
    scale = ",".join(filter(None, (SCALE.value, row.level)))
    config = make_config(row.environment, scale)
    if Path(row.source).exists() and row.source:
        config.dataset.path = row.source
    elif row.source:
        config.dataset.name = row.source
    config.methods, config.ablations, config.seeds = method, False, seeds
    for change in SET.value:
        name, values = parse_values(config, change)
        config = changed(config, {name: next(iter(values.values()))})
    return config


def result(
    row: Dataset, method: str, seeds: tuple[int, ...], folder: Path, request: Request
) -> dict[str, Any]:
    """A row of the CSV: the score of one method on one dataset, from its run's folder."""
    place = folder / row.label / method
    try:
        summary = summaries.read(place)
    except WorkdirError:
        final, options = finalize(make(row, method, seeds))
        print(f"\n{place}", flush=True)
        others = [path.parent for path in sorted(place.parent.glob("*/manifest.json"))]
        reuse = [other for other in others if other != place]
        summary = run(final, place, request, None, options.checkpoint_seconds, reuse)
        assert summary is not None  # nothing stops it before its end
    score = summary["scores"][method]
    interval = mean_interval(np.array(score["per_seed"]))
    config = summary["config"]["dataset"]
    theirs = None if config["path"] else published(config["name"], method)
    return {
        "dataset": row.label,
        "method": method,
        "seeds": len(score["per_seed"]),
        "mean": score["mean"],
        "stderr": score["stderr"],
        "low": interval[0] if interval else "",
        "high": interval[1] if interval else "",
        "paper": theirs.mean if theirs else "",
        "parameters": summary["methods"][method]["parameters"],
        "seconds": sum(summary["seconds"].values()),
    }


def cells(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(label, text of each method) of each line below the header, with Markdown's emphasis."""
    lines = []
    for label in dict.fromkeys(row["dataset"] for row in rows):
        own = {row["method"]: row for row in rows if row["dataset"] == label}
        best = max(row["mean"] for row in own.values())
        lines.append((label, [_cell(own.get(method), best) for method in methods]))
    for level in LEVELS:
        inside = [row for row in rows if _level(row["dataset"]) == level]
        if len({row["dataset"] for row in inside}) > 1:
            lines.append((f"average, {level}", _averages(inside, methods)))
    return [*lines, ("average", _averages(rows, methods))]


def _level(label: str) -> str:
    found = [level for level in LEVELS if level in label.replace("_", "-")]
    return found[0] if found else ""


def _averages(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """The mean over all datasets as text, nothing where one is missing."""
    count = len({row["dataset"] for row in rows})
    scores = [[row["mean"] for row in rows if row["method"] == method] for method in methods]
    means = [float(np.mean(one)) if len(one) == count else None for one in scores]
    known = [mean for mean in means if mean is not None]
    least = _least(max(known), MARKED) if known else 0.0
    texts = ["" if mean is None else f"{mean:.1f}" for mean in means]
    return [
        f"*{text}*" if mean is not None and mean >= least else text
        for mean, text in zip(means, texts, strict=True)
    ]


def _least(best: float, share: float) -> float:
    """What is still near the best score, which may be negative."""
    return best - (1 - share) * abs(best)


def _cell(row: dict[str, Any] | None, best: float) -> str:
    if row is None:
        return ""
    text = f"{row['mean']:.1f} ± {row['stderr']:.1f}" if row["seeds"] > 1 else f"{row['mean']:.1f}"
    text = f"**{text}**" if row["mean"] >= _least(best, BOLD) else text
    interval = f" ({row['low']:.0f} … {row['high']:.0f})" if row["low"] != "" else ""
    paper = f" [paper: {row['paper']:g}]" if row["paper"] != "" else ""
    return text + interval + paper


def markdown(lines: Sequence[tuple[str, list[str]]], methods: Sequence[str]) -> str:
    """The table in Markdown."""
    titles = [METHODS[method].title for method in methods]
    head = [["", *titles], ["---"] * (len(titles) + 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in [*head, *([a, *b] for a, b in lines)])


def latex(lines: Sequence[tuple[str, list[str]]], methods: Sequence[str]) -> str:
    """The same as a tabular environment, for booktabs."""

    def text(cell: str) -> str:
        cell = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", cell)
        cell = re.sub(r"\*(.+?)\*", r"\\emph{\1}", cell)
        cell = cell.replace("±", r"$\pm$").replace("…", r"\ldots{}").replace("_", r"\_")
        return cell.replace("%", r"\%")

    rows = [["", *(METHODS[method].title for method in methods)], *([a, *b] for a, b in lines)]
    head, *body = (" & ".join(map(text, row)) + r" \\" for row in rows)
    *scores, means = body
    inside = [r"\toprule", head, r"\midrule", *scores, r"\midrule", means, r"\bottomrule"]
    begin = rf"\begin{{tabular}}{{l{'c' * len(methods)}}}"
    return "\n".join([begin, *inside, r"\end{tabular}", ""])


def fill(request: Request) -> int:
    """Make what is missing, and write the table after each run, as far as it is known."""
    methods = METHODS_SHOWN.value
    if unknown := [method for method in methods if method not in METHODS]:
        raise ConfigError(f"--methods={','.join(unknown)}: of {', '.join(METHODS)}")
    seeds = tuple(map(int, SEEDS.value))
    few = {name: int(count) for name, _, count in (text.partition(":") for text in FEW.value)}
    rows: list[dict[str, Any]] = []
    for row in map(dataset, DATASETS.value):
        for method in methods:
            own = seeds[: few.get(method, len(seeds))]
            rows.append(result(row, method, own, Path(WORKDIR.value), request))
            lines = cells(rows, methods)
            path = write(rows, RESULTS.value, NAME.value or SCALE.value)
            path.with_name(f"{path.name}.md").write_text(markdown(lines, methods))
            path.with_name(f"{path.name}.tex").write_text(latex(lines, methods))
    print(markdown(cells(rows, methods), methods))
    return 0


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(fill)), argv=sys.argv)
