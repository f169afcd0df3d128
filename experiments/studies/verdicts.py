"""How well the referee's own verdicts, in finished runs, rank students as the simulator does.

    python -m experiments.studies.verdicts --runs=DIR,DIR,… [--known=CSV,…] [--name=NAME]

Nothing is trained: a run with `referee.episodes` has judged its students already (its table's last
column). Writes into --results NAME.csv, with a row for each student:

- `robot`, `data`, `run`, `method`, `seed`: whose it is; `score`: mean normalised score in the
  simulator; `judged`: in the learned world; `left`: share of the episodes there that left what the
  world knows.

and NAME-robots.csv, with a row for each robot and one for all: `files`; `students`;
`spearman_within`, the mean over files of Spearman's correlation of both scores of a file's
students; `spearman`, that of all students of the robot; `missed`, mean over files of how far the
student that the world likes best is below the best one.

NAME-files.csv has the same for each file (`spearman`, `missed`), with `best`, the score of the best
student, and of the world's favourite `liked`, its score, `liked_judged` and `liked_left`.
NAME-trust.csv tells whether `left` warns: for students of similar `left`, from `left_from` (not
included, but for the first row) to `left_to`: `students`, `median_error` and `mean_error` of
|judged - score|, and `far`, the share of them with an error above 20 points.

Students that several methods share stand once, and so do those that several --runs of the same data
share. Rows of --known, tables of this script, are taken as they are: a table can be made in parts.
"""

import sys
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments.tables import read, show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation.scores import rank_correlation
from tskd_jax.machine.signals import Request
from tskd_jax.report import summary as summaries

RUNS = flags.DEFINE_list("runs", [], "Folders of finished runs.")
KNOWN = flags.DEFINE_list("known", [], "Tables of this script, of other runs.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/verdicts", "Folder.")

# Of `left`: none, hardly any, some, and more.
TRUST = ((0.0, 0.0), (0.0, 0.05), (0.05, 0.15), (0.15, 1.0))
FAR = 20.0  # points


def students_of(folder: Path, seen: set[Hashable]) -> list[dict[str, Any]]:
    """A row for each student of a run that was evaluated in both, but for those of `seen`."""
    summary = summaries.read(folder)
    scores, judged = summaries.read_scores(folder, summaries.task_of(folder))
    left = summaries.arrays(folder / summaries.LEFT)
    data, rows = Path(summary["dataset"]["name"]).stem, []
    for method in [name for name in scores if name in judged]:
        # Of the same students all figures are the same.
        content = data, scores[method].tobytes(), judged[method].tobytes()
        if content in seen:
            continue
        seen.add(content)
        for place, seed in enumerate(summary["config"]["seeds"]):
            rows.append(
                {
                    "robot": summary["config"]["environment"]["name"],
                    "data": data,
                    "run": folder.name,
                    "method": method,
                    "seed": seed,
                    "score": float(scores[method][place].mean()),
                    "judged": float(judged[method][place].mean()),
                    "left": float(left[method][place].mean()),
                }
            )
    return rows


def agreement(robot: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How both rank the students of a robot."""
    files = [mine for _, mine in _grouped(rows, "data")]
    within = [_spearman(mine) for mine in files]
    ranked = [one for one in within if one is not None]
    overall = _spearman(rows)
    return {
        "robot": robot,
        "files": len(files),
        "students": len(rows),
        "spearman_within": float(np.mean(ranked)) if ranked else "",
        "spearman": "" if overall is None else overall,
        "missed": float(np.mean([_missed(mine) for mine in files])),
    }


def of_file(data: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How both rank the students of a file, and which of them the world likes best."""
    overall, liked = _spearman(rows), _liked(rows)
    return {
        "data": data,
        "students": len(rows),
        "spearman": "" if overall is None else overall,
        "missed": _missed(rows),
        "best": max(row["score"] for row in rows),
        "liked": liked["score"],
        "liked_judged": liked["judged"],
        "liked_left": liked["left"],
    }


def trust(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How far the world errs about students, by the share of episodes that left what it knows."""
    found = []
    for low, high in TRUST:
        mine = [row for row in rows if low < row["left"] <= high or low == high == row["left"]]
        off = np.array([abs(row["judged"] - row["score"]) for row in mine])
        if len(off):
            errors = {"median_error": float(np.median(off)), "mean_error": float(off.mean())}
            names = {"left_from": low, "left_to": high, "students": len(off)}
            found.append(names | errors | {"far": float((off > FAR).mean())})
    return found


def _spearman(rows: list[dict[str, Any]]) -> float | None:
    return rank_correlation(
        *(np.array([row[name] for row in rows]) for name in ("score", "judged"))
    )


def _missed(rows: list[dict[str, Any]]) -> float:
    return max(row["score"] for row in rows) - _liked(rows)["score"]


def _liked(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return max(rows, key=lambda row: row["judged"])


def _grouped(rows: list[dict[str, Any]], column: str) -> list[tuple[str, list[dict[str, Any]]]]:
    names = dict.fromkeys(row[column] for row in rows)
    return [(name, [row for row in rows if row[column] == name]) for name in names]


def main(_request: Request) -> int:
    """Read what there is, and write the tables."""
    rows = [row for path in KNOWN.value for row in read(path)]
    seen: set[Hashable] = set()
    rows += [row for folder in RUNS.value for row in students_of(Path(folder), seen)]
    if not rows:
        raise ConfigError(
            "no student has been judged in a simulator and in a learned world: name finished runs "
            "by --runs, or tables by --known"
        )
    tables = {
        "robots": [agreement(name, mine) for name, mine in _grouped(rows, "robot")],
        "files": [of_file(name, mine) for name, mine in _grouped(rows, "data")],
        "trust": trust(rows),
    }
    tables["robots"].append(agreement("all", rows))
    path = write(rows, RESULTS.value, NAME.value)
    for kind, table in tables.items():
        for row in table:
            show(row)
        write(table, RESULTS.value, f"{path.name}-{kind}")
    return 0


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
