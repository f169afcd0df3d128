"""Updates a second of BC, TD3+BC, IQL and CQL, beside d3rlpy's.

    python -m experiments.benchmarks.baselines [--environment=hopper --dataset=FILE.hdf5]
        [--methods=cql] [--reference=PYTHON]

Ours are trained by `fit` at the fields of `paper`, `--seeds` of them side by side. PYTHON is an
interpreter with d3rlpy (see `experiments/studies/d3rlpy_reference.py`, which it runs with
`--threads` threads). The two take turns. Columns, each the median over turns:

- `per_second`, `their_per_second`: updates of one seed a second of wall clock; ours are all seeds'
  together;
- `cpu_ms`, `their_cpu_ms`: milliseconds of processor time for one such update, which other work on
  the machine disturbs less;
- `ratio`: per_second over their_per_second.

Theirs are the difference of a run and of a shorter one, so that neither start nor imports count.
"""

import contextlib
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.data.load import load_dataset
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.machine.throughput import matmul_peak
from tskd_jax.models import cloning, cql, iql, td3_bc
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import CHUNK_SECONDS, fit
from tskd_jax.training.training import Training

# Of d3rlpy in a turn: some seconds of each.
THEIR_UPDATES = {"bc": 1000, "td3_bc": 300, "iql": 300, "cql": 50}
FEW_UPDATES = 5
STEPS = 10**9  # only `Enough` ends a training
ENVIRONMENT = flags.DEFINE_enum("environment", "hopper", list(TASKS), "Of the dataset.")
DATASET = flags.DEFINE_string("dataset", "hopper-sac-replay", "File or name; for d3rlpy a file.")
METHODS = flags.DEFINE_list("methods", list(THEIR_UPDATES), "What is trained.")
SEEDS = flags.DEFINE_integer("seeds", 5, "Trained side by side.", 1)
TURNS = flags.DEFINE_integer("turns", 3, "Of each.", 1)
CHUNKS = flags.DEFINE_integer("chunks", 4, "Of about a second, of ours in a turn.", 1)
REFERENCE = flags.DEFINE_string("reference", None, "Interpreter with d3rlpy.")
THREADS = flags.DEFINE_integer("threads", 1, "Of d3rlpy.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_baselines", "Folder.")


def training_of(method: str, task: Task) -> Training:
    """A method's training at the fields of `paper`, without an end."""
    recorded, seeds = load_dataset(DATASET.value), tuple(range(SEEDS.value))
    if method == "bc":
        return cloning.training(cloning.Config(steps=STEPS), [recorded], task, seeds)
    module = {"td3_bc": td3_bc, "iql": iql, "cql": cql}[method]
    return module.training(module.Config(steps=STEPS), recorded, task, seeds)


def reference_run(method: str, updates: int) -> tuple[float, float]:
    """Seconds of wall clock, of the training, and of processor time, of the whole process."""
    script = Path(__file__).parents[1] / "studies" / "d3rlpy_reference.py"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.csv"
        command = [
            *(str(REFERENCE.value), str(script), f"--dataset={DATASET.value}"),
            *(f"--environment={TASKS[ENVIRONMENT.value].gymnasium_id}", f"--algorithms={method}"),
            *("--seeds=0", f"--updates={updates}", "--episodes=1", f"--out={out}"),
        ]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        threads = {"OMP_NUM_THREADS": str(THREADS.value)}
        done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().rpartition("\n")[2]
            raise ConfigError(f"--reference={REFERENCE.value} fails: {said}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(out, newline="") as file:
            seconds = float(next(csv.DictReader(file))["seconds"])
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds, spent


def reference_turn(method: str) -> tuple[float, float]:
    """Seconds of wall clock and of processor time of one of d3rlpy's updates."""
    updates = THEIR_UPDATES[method]
    few, many = (reference_run(method, n) for n in (FEW_UPDATES, updates + FEW_UPDATES))
    return (many[0] - few[0]) / updates, (many[1] - few[1]) / updates


class Enough(Exception):
    """All turns are done."""


class Turns:
    """Collects the speed of a training by chunks, and lets d3rlpy train in between."""

    def __init__(self, method: str):
        self.ours: list[tuple[float, float]] = []  # seconds of wall clock and processor an update
        self.theirs: list[tuple[float, float]] = []
        self.flops = 0.0
        self._method = method
        self._done, self._processor = 0, time.process_time()

    def __call__(self, done: int, steps: int, metrics: dict[str, float]) -> None:
        processor, updates = time.process_time() - self._processor, done - self._done
        rate = metrics.get("steps_per_second", np.inf)
        if updates / rate > CHUNK_SECONDS / 2:  # shorter ones are on the way to the length kept
            self.ours.append((1 / rate, processor / updates))
            self.flops = metrics["matmul_flops_per_second"] / rate
            if len(self.ours) % CHUNKS.value == 0:
                if REFERENCE.value:
                    self.theirs.append(reference_turn(self._method))
                if len(self.ours) == TURNS.value * CHUNKS.value:
                    raise Enough
        self._done, self._processor = done, time.process_time()


def measure(method: str) -> dict[str, Any]:
    """A row of the table."""
    turns, seeds = Turns(method), SEEDS.value
    with contextlib.suppress(Enough):
        plan = training_of(method, TASKS[ENVIRONMENT.value])
        fit(plan, TrainingCallbacks(on_progress=turns))
    wall, processor = np.median(turns.ours, 0) / seeds
    row = {
        **{"data": Path(DATASET.value).stem, "method": method, "seeds": seeds},
        **{"per_second": 1 / wall, "cpu_ms": 1000 * processor},
        **{"matmul_gflop": turns.flops / seeds / 1e9},
        **{"gflop_per_second": turns.flops / seeds / wall / 1e9},
        "matmul_peak_gflop_per_second": matmul_peak() / 1e9,
    }
    if not turns.theirs:
        return row
    their_wall, their_processor = np.median(turns.theirs, 0)
    return row | {
        **{"their_threads": THREADS.value, "their_per_second": 1 / their_wall},
        **{"their_cpu_ms": 1000 * their_processor, "ratio": their_wall / wall},
    }


def main(_request: Request) -> int:
    table = []
    for method in METHODS.value:
        table.append(measure(method))
        show(table[-1])
        write(table, RESULTS.value, NAME.value)
    return 0


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
