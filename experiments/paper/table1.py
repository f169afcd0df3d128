"""The paper's Table 1, of any methods and datasets: mean ± standard error, and a 95% interval.

    python -m experiments.paper.table1 --datasets=hopper,walker2d:FILE.hdf5,… [--methods=bc,…]
        [--scale=quick] [--seeds=0,1,2,3,4] [--seed_axis=student] [--few=trajectory_transformer:2]
        [--known=CSV,…] [--workdir=DIR] [--reuse=DIR,…] [--name=NAME]

A dataset is an environment of ours (its own level), ENVIRONMENT:LEVEL, ENVIRONMENT:FILE, or a file
or D4RL's name that begins with the environment's. Each pair of dataset and method is a run in
WORKDIR/SCALE/DATASET/METHOD: a missing one is made, a finished one is read, one that was killed
goes on, and what two of them have in common is made once. A run with other settings is not
replaced: another --workdir is needed, which takes over with --reuse what has not changed. What
stands in the tables of --known, made elsewhere or before, is taken from there and not run: a table
can be made in parts. A run that fails leaves its cell empty, and the rest goes on; the exit status
is then 2.

Writes NAME.md, NAME.csv and NAME.tex in --results. As in the paper, a score at most 7% below the
best of its row is bold, and an average at most 5% below the best one is marked. A method of fewer
seeds than others shows how many (n). With † the referee has refused all that was imagined and
stitched: the students are those of the filter. The paper's own score stands beside ours only where
the dataset is D4RL's. Of methods with a teacher or stitching, errors are over students of one
pipeline, unless --seed_axis=pipeline makes the whole pipeline once for each seed.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import app, flags

from experiments.paper import runs
from experiments.paper.datasets import parse_datasets
from experiments.tables import read, score_text, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.methods import METHODS
from tskd_jax.report.comparison_table import grid

DATASETS = flags.DEFINE_list("datasets", None, "See above.", required=True)
SHOWN = flags.DEFINE_list("methods", list(METHODS), "Columns, in this order.")
FEW = flags.DEFINE_list("few", [], "METHOD:COUNT, for methods that are too slow for all seeds.")
KNOWN = flags.DEFINE_list("known", [], "Tables of this script, NAME.csv, of the same --scale.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the scale.")
RESULTS = flags.DEFINE_string("results", "experiments/results/table1", "Folder.")

BOLD, MARKED = 0.93, 0.95  # of the best score in a row, of the best average
LEVELS = ("medium-expert", "medium-replay", "medium")  # each has an average of its own


def cells(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(label, text of each method) of each line below the header, with Markdown's emphasis."""
    lines, most = [], max(row["seeds"] for row in rows)
    for label in dict.fromkeys(row["dataset"] for row in rows):
        own = {row["name"]: row for row in rows if row["dataset"] == label}
        best = max(row["mean"] for row in own.values())
        lines.append((label, [_cell(own.get(method), best, most) for method in methods]))
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
    scores = [[row["mean"] for row in rows if row["name"] == method] for method in methods]
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


def _cell(row: dict[str, Any] | None, best: float, most: int) -> str:
    if row is None:
        return ""
    text = score_text(row)
    text = f"**{text}**" if row["mean"] >= _least(best, BOLD) else text
    refused = row.get("refused", "")
    text += "" if refused in ("", 0) else "†" if refused == 1 else f" († {refused:.0%})"
    text += f" (n = {row['seeds']})" if row["seeds"] < most else ""
    interval = f" ({row['low']:.0f} … {row['high']:.0f})" if row["low"] != "" else ""
    paper = f" [paper: {row['paper']:g}]" if row["paper"] != "" else ""
    return text + interval + paper


def titles(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[str]:
    """What stands above each column: the runs' own titles, which may name values of fields."""
    known = {name: METHODS[name].title_for(METHODS[name].fields()) for name in methods}
    known |= {row["name"]: row["title"] for row in rows}
    return [known[method] for method in methods]


def markdown(lines: Sequence[tuple[str, list[str]]], heads: Sequence[str]) -> str:
    """The table in Markdown."""
    return grid([["", *heads], *([label, *texts] for label, texts in lines)])


def latex(lines: Sequence[tuple[str, list[str]]], heads: Sequence[str]) -> str:
    """The same as a tabular environment, for booktabs."""

    def text(cell: str) -> str:
        cell = re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", cell)
        cell = re.sub(r"\*(.+?)\*", r"\\emph{\1}", cell)
        cell = cell.replace("±", r"$\pm$").replace("…", r"\ldots{}").replace("_", r"\_")
        return cell.replace("†", r"$^\dagger$").replace("%", r"\%")

    rows = [["", *heads], *([a, *b] for a, b in lines)]
    head, *body = (" & ".join(map(text, row)) + r" \\" for row in rows)
    *scores, means = body
    inside = [r"\toprule", head, r"\midrule", *scores, r"\midrule", means, r"\bottomrule"]
    begin = rf"\begin{{tabular}}{{l{'c' * len(heads)}}}"
    return "\n".join([begin, *inside, r"\end{tabular}", ""])


def parse_few(text: str) -> tuple[str, int]:
    """METHOD:COUNT of --few.

    Raises:
      ConfigError: there is no such count, or it is not above 0.
    """
    method, _, count = text.partition(":")
    if not count.isdecimal() or int(count) < 1:
        raise ConfigError(f"--few={text}: METHOD:COUNT is meant, with a COUNT of at least 1")
    return method, int(count)


def fill(request: Request) -> int:
    """Make what is missing, and write the table after each run, as far as it is known."""
    methods = SHOWN.value
    few = dict(map(parse_few, FEW.value))
    if unknown := sorted({*methods, *few} - set(METHODS)):
        raise ConfigError(f"{', '.join(unknown)}: no method; one of {', '.join(METHODS)}")

    def keep(rows: list[dict[str, Any]]) -> None:
        lines, heads = cells(rows, methods), titles(rows, methods)
        path = write(rows, RESULTS.value, NAME.value or runs.SCALE.value)
        path.with_name(f"{path.name}.md").write_text(markdown(lines, heads))
        path.with_name(f"{path.name}.tex").write_text(latex(lines, heads))

    rows, failures = runs.scores(
        [
            (dataset, runs.Wanted(method, seeds=few.get(method)))
            for dataset in parse_datasets(DATASETS.value)
            for method in methods
        ],
        request,
        dict(row for path in KNOWN.value for row in known_rows(path)),
        keep,
    )
    if rows:
        print(markdown(cells(rows, methods), titles(rows, methods)))
    return runs.report_failures(failures)


def known_rows(path: str) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """(dataset, name) and row of a table of --known.

    Raises:
      ConfigError: there is no such table, or it was made with other flags.
    """
    wanted = runs.flags_of_row()
    for row in read(path):
        found = {name: str(row.get(name, "")) for name in wanted}
        if others := [f"--{name}={found[name]}" for name in wanted if found[name] != wanted[name]]:
            raise ConfigError(f"--known={path}: made with {', '.join(others)}")
        yield (row["dataset"], row["name"]), row


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(fill)), argv=sys.argv)
