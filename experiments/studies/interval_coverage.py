"""How often does a run's 95% interval hold the truth?

    python -m experiments.studies.interval_coverage [--samples=2000] [--name=NAME]

Scores of seeds and episodes are drawn: the student of a seed is worth a normal number, each of its
episodes a normal number more, with a deviation of 1. The true interquartile mean is 0. A row for
each number of seeds and each deviation between them (`between`; 0: seeds are alike), at 10 episodes
a seed: the shares of intervals that hold 0, and their mean widths, of `interval_of_episodes`
(`nested`), and of the same with all episodes as if of one seed (`pooled`). Writes NAME.csv in
--results.
"""

import sys
from typing import Any

import numpy as np
from absl import app, flags

from experiments.tables import show, write
from tskd_jax.evaluation.statistics import interval_of_episodes

SAMPLES = flags.DEFINE_integer("samples", 2000, "Intervals of each row.", 1)
NAME = flags.DEFINE_string("name", "normal", "Of the results.")
RESULTS = flags.DEFINE_string("results", "experiments/results/interval_coverage", "Folder.")

EPISODES = 10


def measure(seeds: int, between: float) -> dict[str, Any]:
    """One row."""
    rng = np.random.default_rng(0)
    size = (SAMPLES.value, seeds)
    samples = between * rng.normal(size=(*size, 1)) + rng.normal(size=(*size, EPISODES))
    row: dict[str, Any] = {"seeds": seeds, "episodes": EPISODES, "between": between}
    for name, shape in (("nested", (seeds, EPISODES)), ("pooled", (1, seeds * EPISODES))):
        found = np.array([interval_of_episodes(one.reshape(shape)) for one in samples])
        row[f"{name}_coverage"] = float(((found[:, 0] <= 0) & (found[:, 1] >= 0)).mean())
        row[f"{name}_width"] = float(np.ptp(found, 1).mean())
    return row


def main(_argv) -> None:
    table = []
    for seeds in (3, 5, 10):
        for between in (0.0, 0.5, 1.0, 2.0):
            table.append(measure(seeds, between))
            show(table[-1])
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
