"""How much of a dataset can be stitched? (over the radius, the rule, the tolerance and the size)

    python -m experiments.studies.stitching_share [--config=configs/hopper.py:small] [--workdir=DIR]
        [--grid=stitching.radius=0.1,0.2,0.5 …] [--sizes=0,20000] [--name=NAME]

Trains the ensemble and V of a config (or takes the ensemble from a run's folder) on the recorded
transitions, then searches one epoch of Algorithm 4 for each combination of the values, without
imagined trajectories. A size is a number of transitions, of whole episodes drawn at random, among
which is searched; 0 is all of them. The ensemble and V are those of the whole file at every size,
so that sizes differ in their density alone. One row each, written into NAME.csv in --results when
it is known:

- `better_share`: of the transitions whose next state has a state of higher V within the radius;
- `stitched_share`: of those for which one of these passes the density test;
- `paths_share`: of the walked trajectories that take at least one stitch, `steps_share`: of their
  steps. Whether a trajectory is then accepted depends on rewards, which are not asked for here.
- `seconds`: of the search.
"""

import sys
import time
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.studies.teachers import opened
from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.cli.sweep import grid
from tskd_jax.config import finalize
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.models import dynamics, value
from tskd_jax.stitching.paths import follow
from tskd_jax.stitching.successors import find_successors
from tskd_jax.training import seeds

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:small")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the ensemble is trained, or already is.")
GRID = flags.DEFINE_multi_string("grid", [], "stitching.FIELD=VALUE,VALUE,…; none: the config's.")
SIZES = flags.DEFINE_list("sizes", ["0"], "Transitions among which is searched; 0: all.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/stitching_share", "Folder.")


def main(_argv) -> int:
    return run_to_exit_status(measure)


def measure(request: Request) -> int:
    """All rows, one after another; gives the exit status."""
    if not all(size.isdecimal() for size in SIZES.value):
        raise ConfigError(f"--sizes={','.join(SIZES.value)}: whole numbers are meant")
    points = grid(CONFIG.value, GRID.value)
    if any(not field.startswith("stitching.") for point, _ in points for field in point):
        raise ConfigError("--grid: fields of stitching are meant")
    config, options = finalize(CONFIG.value)
    with opened(config, options, WORKDIR.value, request) as (exp, _):
        task, recorded = exp.task, exp.recorded
        ensemble = seeds.of_seed(exp.stage(dynamics.train, config.dynamics, recorded), 0)
    fitted, _ = value.train(config.value, [recorded], keys=jax.random.key(0)[None])
    values = seeds.of_seed(fitted, 0)

    table: list[dict[str, Any]] = []
    for size in map(int, SIZES.value):
        data = part_of(recorded, size)
        for point, (varied, _) in points:
            begin = time.perf_counter()
            successors, found = find_successors(data, ensemble, values, varied.stitching)
            seconds = time.perf_counter() - begin
            paths = follow(data, successors, task.episode_limit, varied.stitching.allow_cycles)
            row = {"transitions": data.size} | point
            row |= {"better_share": found["better_neighbour_share"]}
            row |= {"stitched_share": found["stitched_share"]}
            row |= {
                "paths_share": len(np.unique(paths.episode_of()[paths.jumps])) / len(paths.lengths)
            }
            row |= {"steps_share": float(paths.jumps.mean()), "seconds": seconds}
            table.append(row)
            show(row)
            write(table, RESULTS.value, NAME.value)
    return 0


def part_of(recorded: Trajectories, size: int) -> Trajectories:
    """Episodes drawn at random, the first that hold `size` transitions together; 0: all."""
    order = np.random.default_rng(0).permutation(len(recorded.lengths))
    enough = np.cumsum(recorded.lengths[order]) >= size
    count = int(enough.argmax()) + 1 if size and enough.any() else len(order)
    return recorded.select(np.sort(order[:count]))


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
