"""The paper's Figure 4: TSKD's score, and its spread, over the number of imagined trajectories.

    python -m experiments.paper.figure4 --datasets=hopper:FILE [--counts=0,60,120,180,240,300]

Datasets, and where the runs are, as of `experiments.paper.table1`; one teacher is trained for all
counts. Without an imagined trajectory TSKD still stitches. At `quick` and `small` the learned world
decides whether what is imagined and stitched joins the data; with --set=selection.by=none (and a
--workdir of its own) it always does, as in the paper. Writes NAME.png, NAME.svg and NAME.csv in
--results.
"""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from experiments.drawing import save
from experiments.paper import runs
from experiments.paper.datasets import parse_datasets
from experiments.tables import write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request

DATASETS = flags.DEFINE_list("datasets", ["hopper:medium-expert"], "See above.")
COUNTS = flags.DEFINE_list("counts", ["0", "60", "120", "180", "240", "300"], "Trajectories.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the scale.")
RESULTS = flags.DEFINE_string("results", "experiments/results/imagined_count", "Folder.")


def wanted(count: int) -> runs.Wanted:
    """TSKD with so many imagined trajectories."""
    if count == 0:
        return runs.Wanted("tskd", {"imagination.enabled": False}, "tskd_0")
    return runs.Wanted("tskd", {"imagination.trajectories": count}, f"tskd_{count}")


def main(request: Request) -> int:
    """Make the runs that are missing, and draw."""
    if not all(count.isdecimal() for count in COUNTS.value):
        raise ConfigError(f"--counts={','.join(COUNTS.value)}: whole numbers are meant")
    rows, failures = collect(DATASETS.value, list(map(int, COUNTS.value)), request)
    if rows:
        path = write(rows, RESULTS.value, NAME.value or runs.SCALE.value)
        draw(rows, path)
    return runs.report_failures(failures)


def collect(
    datasets: Sequence[str], counts: Sequence[int], request: Request
) -> tuple[list[dict[str, Any]], list[str]]:
    """The score of TSKD with each number of imagined trajectories, and the runs that failed."""
    of_name = {wanted(count).name: count for count in counts}
    found = parse_datasets(datasets)
    rows, failures = runs.scores(itertools.product(found, map(wanted, counts)), request)
    return [{"count": of_name[row["name"]]} | row for row in rows], failures


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A line for each dataset, with a band of the standard error."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for label in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == label]
        x, y, errors = ([row[name] for row in own] for name in ("count", "mean", "stderr"))
        axes.plot(x, y, "o-", ms=4, label=label)
        low, high = zip(*((a - b, a + b) for a, b in zip(y, errors, strict=True)), strict=True)
        axes.fill_between(x, low, high, alpha=0.2)
    axes.set_xlabel("Trajectory Number")
    axes.set_ylabel("Normalized Average Return")
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
