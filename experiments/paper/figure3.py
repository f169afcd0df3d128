"""The paper's Figure 3: DDR+BC, MBTS+BC and TSKD beside each other, on each dataset.

    python -m experiments.paper.figure3 --datasets=hopper:FILE,… [--scale=quick] [--name=NAME]

Figure 6 is the same on HalfCheetah and Walker2d: `experiments.paper.figure6`. Datasets, and where
the runs are, as of `experiments.paper.table1`. At `quick` and `small` the learned world decides
whether what is imagined and stitched joins the data; with --set=selection.by=none (and a --workdir
of its own) it always does, as in the paper. Writes NAME.png, NAME.svg and NAME.csv in --results.
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
from tskd_jax.machine.signals import Request

# As in the paper, from left to right; what DDR+BC drops is the stitching (section 6.1).
SERIES = {
    "DDR+BC": runs.Wanted("tskd", {"stitching.enabled": False}, "ddr"),
    "MBTS+BC": runs.Wanted("mbts"),
    "DDR+TSKD+BC": runs.Wanted("tskd"),
}
COLORS = ("#a9b4c2", "#e0a458", "#2a6f97")
LEVELS = ("medium-expert", "medium", "medium-replay")


DATASETS = flags.DEFINE_list("datasets", None, "By default D4RL's three levels.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the figure's and the scale's.")
RESULTS = flags.DEFINE_string("results", "experiments/results/ablation", "Folder.")


def main(
    request: Request, figure: str = "figure3", environments: Sequence[str] = ("hopper",)
) -> int:
    """Make the runs that are missing, and draw."""
    datasets = DATASETS.value or [f"{name}:{level}" for name in environments for level in LEVELS]
    rows, failures = collect(datasets, request)
    if rows:
        path = write(rows, RESULTS.value, NAME.value or f"{figure}-{runs.SCALE.value}")
        draw(rows, path)
    return runs.report_failures(failures)


def collect(datasets: Sequence[str], request: Request) -> tuple[list[dict[str, Any]], list[str]]:
    """The score of each of `SERIES` on each dataset, and the runs that failed."""
    found = parse_datasets(datasets)
    return runs.scores(itertools.product(found, SERIES.values()), request)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A group of bars for each dataset: mean and standard error over seeds."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    from matplotlib import pyplot as plt

    labels = list(dict.fromkeys(row["dataset"] for row in rows))
    width = 0.8 / len(SERIES)
    figure, axes = plt.subplots(figsize=(2 + 1.6 * len(labels), 3.6), layout="constrained")
    for place, (title, wanted) in enumerate(SERIES.items()):
        own = [row for row in rows if row["name"] == (wanted.name or wanted.method)]
        x = [labels.index(row["dataset"]) + (place - 1) * width for row in own]
        y, errors = ([row[name] for row in own] for name in ("mean", "stderr"))
        axes.bar(x, y, width, yerr=errors, capsize=3, label=title, color=COLORS[place])
    axes.set_xticks(range(len(labels)), labels)
    axes.set_ylabel("Normalized Average Return")
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
