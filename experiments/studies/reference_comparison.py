"""Our methods against d3rlpy's, on the same file, with the same updates, networks and episodes.

    python -m experiments.studies.reference_comparison --reference=found.csv \
        --datasets=hopper:FILE,… --scale=paper [--workdir=runs/reference] [--name=NAME]

Reads what `experiments/studies/d3rlpy_reference.py` has written, makes our runs with the same
seeds, batches and numbers of updates (as `experiments.paper.table1` does: found ones are read,
killed ones go on), and writes NAME.csv in --results, with a row for each dataset and method:

- `ours`, `theirs`: mean normalised score over seeds, with the half-width of Student's 95% interval;
- `difference`, and `inside`: whether it is at most the sum of both half-widths;
- `updates_per_second`, `their_updates_per_second`: of one seed; ours are trained side by side, so
  that is all seeds' updates over the time of the stage, both with all they compile.
"""

import csv
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from experiments.paper import runs
from experiments.paper.datasets import Dataset, parse_datasets
from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.envs.entries import TASKS
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation.scores import mean_interval
from tskd_jax.machine.signals import Request

REFERENCE = flags.DEFINE_string("reference", None, "CSV of d3rlpy_reference.", required=True)
DATASETS = flags.DEFINE_list("datasets", None, "As of experiments.paper.table1.", required=True)
NAME = flags.DEFINE_string("name", "d3rlpy", "Of the results.")
RESULTS = flags.DEFINE_string("results", "experiments/results/reference", "Folder.")

SECTIONS = {"bc": "student"}  # where a method's fields are, if not in a section of its name
# d3rlpy's IQL neither scales rewards nor lowers the actor's rate.
AS_THEIRS = {"iql": {"iql.scale_rewards": False, "iql.actor_schedule": "constant"}}


def half_width(scores: np.ndarray) -> float:
    """Of Student's 95% interval of the mean; without end for one seed."""
    interval = mean_interval(scores)
    return (interval[1] - interval[0]) / 2 if interval else float("inf")


def compare(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """Two methods' scores by seed as columns of a row."""
    difference = float(ours.mean() - theirs.mean())
    halves = half_width(ours), half_width(theirs)
    return {
        **{"ours": float(ours.mean()), "ours_half": halves[0]},
        **{"theirs": float(theirs.mean()), "theirs_half": halves[1]},
        **{"difference": difference, "inside": abs(difference) <= sum(halves)},
    }


def read_reference(path: str) -> dict[tuple[str, str], list[dict[str, str]]]:
    """(dataset's label, method) -> the rows of its seeds.

    Raises:
      ConfigError: the rows of one pair differ in their updates or batches.
    """
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            found.setdefault((row["dataset"], row["method"]), []).append(row)
    for pair, rows in found.items():
        if len({(row["updates"], row["batch_size"]) for row in rows}) > 1:
            raise ConfigError(f"{path}: {pair[1]} on {pair[0]} with several numbers of updates")
    return found


def row_of(
    dataset: Dataset, method: str, theirs: Sequence[dict[str, str]], request: Request
) -> dict[str, Any]:
    """A row of the table, after our run.

    Raises:
      ConfigError: seeds or episodes are not theirs.
    """
    section, first = SECTIONS.get(method, method), theirs[0]
    changes = {
        f"{section}.{field}": int(first[column])
        for field, column in (("steps", "updates"), ("batch_size", "batch_size"))
    } | {"referee.episodes": 0}
    changes |= AS_THEIRS.get(method, {})
    name = f"{method}_{first['updates']}"
    wanted = runs.Wanted(method, changes, name, seeds=len(theirs))
    seeds = [row["seed"] for row in theirs]
    if seeds != runs.SEEDS.value[: len(seeds)]:
        raise ConfigError(
            f"{REFERENCE.value}: {method} on {dataset.label} has the seeds {', '.join(seeds)}; "
            f"give --seeds={','.join(seeds)}"
        )
    returns = np.array([[float(one) for one in row["returns"].split()] for row in theirs])
    episodes = runs.config_of(dataset, wanted).evaluation.episodes
    if returns.shape[1] != episodes:
        raise ConfigError(
            f"{REFERENCE.value}: {method} on {dataset.label} has {returns.shape[1]} episodes a "
            f"seed, ours {episodes}; give --set=evaluation.episodes={returns.shape[1]}"
        )
    summary = runs.summary(dataset, wanted, request)
    task = TASKS[dataset.environment]
    seconds = sum(float(row["seconds"]) for row in theirs)
    updates = int(first["updates"]) * len(theirs)
    own_seconds = summary["seconds"][f"student.{method}"]
    return (
        {"data": dataset.label, "method": method, "updates": int(first["updates"])}
        | {"batch_size": int(first["batch_size"]), "seeds": len(theirs)}
        | compare(
            np.array(summary["scores"][method]["per_seed"]),
            np.asarray(task.normalized_score(returns)).mean(1),
        )
        | {"updates_per_second": updates / own_seconds}
        | {"their_updates_per_second": updates / seconds}
    )


def main(request: Request) -> int:
    """Make our runs, and write the table as far as it is known."""
    reference, rows = read_reference(REFERENCE.value), []
    for dataset in parse_datasets(DATASETS.value):
        for (label, method), theirs in reference.items():
            if label == dataset.label:
                rows.append(row_of(dataset, method, theirs, request))
                show(rows[-1])
                write(rows, RESULTS.value, NAME.value)
    if not rows:
        labels = ", ".join(sorted({label for label, _ in reference}))
        raise ConfigError(f"{REFERENCE.value}: holds {labels}, and none of --datasets")
    return 0


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
