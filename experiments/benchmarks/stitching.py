"""How fast is the stitching search, and a whole epoch, from 10⁴ to 10⁷ transitions?

    python -m experiments.benchmarks.stitching --config=configs/halfcheetah.py \
        --data=FILE.hdf5[,FILE.hdf5] [--sizes=10000,100000,1000000] [--name=NAME]

Measures, on the same data in one run and in turn: `scipy.spatial.cKDTree.query_ball_point` with
all cores and the best of each list (`ckdtree`), the backends of `best_neighbour` (`cpu`,
`accelerator`), and a whole epoch of stitching (`epoch`: values, search, densities, actions and
rewards of the edges, walk, acceptance). A file is cut to whole episodes for sizes below its own,
and repeated with jitter for sizes above. The value nets and the dynamics ensemble are trained
before, the inverse dynamics and DDR-II are not: their time does not depend on their weights.

Searches that would take longer than `--budget` seconds are timed on some of the queries, and their
seconds are scaled to all of them; the column `queries_timed` says of how many. Answers of all
methods are compared; the last check, of a million queries between the backends, ends with exit
status 1 if any differ. Writes NAME.csv and NAME.png into --results.
"""

import csv
import functools
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from scipy.spatial import cKDTree

from tskd_jax.config import Config, finalize
from tskd_jax.costs.fresh import fresh_inverse_dynamics, fresh_reward_generator
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories, concatenate, from_columns
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.models import dynamics, value
from tskd_jax.models.value import Value
from tskd_jax.stitching.neighbours import best_neighbour
from tskd_jax.stitching.stitch import stitch
from tskd_jax.stitching.successors import find_successors, search_arguments
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.seeds import of_seed

METHODS = ("ckdtree", "cpu", "accelerator", "epoch")
CROSS_CHECK_STATES = 20_000

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py")
DATA = flags.DEFINE_list("data", [], "Files in D4RL's format; none: the config's dataset.")
SIZES = flags.DEFINE_list("sizes", ["10000", "30000", "100000"], "Transitions.")
METHOD = flags.DEFINE_multi_enum("method", METHODS, METHODS, "What is measured.")
JITTER = flags.DEFINE_float("jitter", 0.05, "Of repeated data, in standard deviations.", 0.0)
REPEATS = flags.DEFINE_integer("repeats", 3, "Of each measurement; the median counts.", 1)
BUDGET = flags.DEFINE_float("budget", 60.0, "Seconds that one measurement may take.", 0.0)
TRAINING_STEPS = flags.DEFINE_integer("training_steps", 10_000, "Of the nets, before.", 1)
CROSS_CHECK = flags.DEFINE_integer("cross_check", 1_000_000, "Queries; 0: none.", 0)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the config's label.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_stitching", "Folder.")


def sized(recorded: Trajectories, size: int, rng: np.random.Generator) -> Trajectories:
    """About that many transitions: some of the episodes, or all of them again and again, jittered.

    Within an episode the next state stays the state that follows.
    """
    copies = [recorded]
    while size > recorded.size * len(copies):
        copies.append(_jittered(recorded, rng))
    data = concatenate(copies)
    order = rng.permutation(len(data.lengths)) if len(copies) == 1 else np.arange(len(data.lengths))
    count = np.searchsorted(np.cumsum(data.lengths[order]), size) + 1
    return data.select(np.sort(order[:count]))


def _jittered(recorded: Trajectories, rng: np.random.Generator) -> Trajectories:
    scale = JITTER.value * recorded.observations.std(0)
    observations = recorded.observations + scale * rng.normal(size=recorded.observations.shape)
    next_observations = recorded.next_observations + scale * rng.normal(size=observations.shape)
    inner = np.setdiff1d(np.arange(recorded.size), recorded.ends)
    next_observations[inner] = observations[inner + 1]
    return from_columns(
        observations=observations,
        actions=recorded.actions,
        rewards=recorded.rewards,
        next_observations=next_observations,
        terminals=recorded.terminals,
        lengths=recorded.lengths,
    )


def ckdtree(queries, states, values, radius, floor) -> np.ndarray:
    """(Q,) the baseline's answers: all neighbours of each query, and the best of them."""
    lists = cKDTree(states).query_ball_point(queries, radius, workers=-1)
    best = np.array([near[np.argmax(values[near])] if near else -1 for near in lists])
    return np.where((best >= 0) & (values[best] > floor), best, -1)


def median_seconds(functions: dict[str, Callable], repeats: int) -> tuple[dict, dict]:
    """(median seconds, last result) of each function; they take turns."""
    seconds, results = {name: [] for name in functions}, {}
    for _ in range(repeats):
        for name, function in functions.items():
            begin = time.perf_counter()
            results[name] = function()
            seconds[name].append(time.perf_counter() - begin)
    return {name: float(np.median(spent)) for name, spent in seconds.items()}, results


class Prepared:
    """The nets that an epoch needs, of one seed."""

    def __init__(self, config: Config, task: Task, recorded: Trajectories) -> None:
        keys = jax.random.split(jax.random.key(0), 4)
        values, _ = value.train(config.value, [recorded], keys=keys[:1])
        ensembles, _ = dynamics.train(config.dynamics, recorded, keys=keys[1:2])
        self.values: Value = of_seed(values, 0)
        pricing = DiffusionPricing(
            ensembles,
            fresh_inverse_dynamics(config, recorded, task, keys[2:3]),
            fresh_reward_generator(config, recorded, keys[2:3]),
            config.reward_sampling,
        )
        self.pricing: DiffusionPricing = of_seed(pricing, 0)
        self.config, self.limit, self.key = config, task.episode_limit, keys[3]

    def search(self, data: Trajectories) -> dict[str, Any]:
        """The arguments of the epoch's search."""
        return search_arguments(data, self.values, self.config.stitching)[0]

    def epoch(self, data: Trajectories) -> dict[str, Any]:
        """One epoch of stitching; its metrics."""
        successors, searched = find_successors(
            data, self.pricing.ensemble, self.values, self.config.stitching
        )
        _, stitched = stitch(
            data,
            successors,
            functools.partial(self.pricing.price, key=self.key, callbacks=TrainingCallbacks()),
            episode_limit=self.limit,
            acceptance=self.config.stitching.acceptance,
            allow_cycles=self.config.stitching.allow_cycles,
        )
        return searched | stitched


def measure(prepared: Prepared, data: Trajectories, methods: list[str]) -> list[dict[str, Any]]:
    """A row for each method on that data."""
    search = prepared.search(data)
    rows = np.random.default_rng(1).permutation(data.size)
    functions, counts = {}, {}
    for method in methods:
        if method == "epoch":
            prepared.epoch(data)  # compiles
            functions[method], counts[method] = lambda: prepared.epoch(data), data.size
            continue
        run = ckdtree if method == "ckdtree" else _backend(method)
        trial = rows[:1000]
        run(**_some(search, trial))  # compiles
        begin = time.perf_counter()
        run(**_some(search, trial))
        rate = len(trial) / (time.perf_counter() - begin)
        count = data.size
        if method != "cpu":  # which has large fixed costs, and is never slow
            count = min(data.size, max(len(trial), int(rate * BUDGET.value)))
        # The whole search keeps the order of the data, which is kind to caches, as in an epoch.
        part = _some(search, np.sort(rows[:count]))
        functions[method] = lambda run=run, part=part: run(**part)
        counts[method] = count
    seconds, results = median_seconds(functions, REPEATS.value if data.size < 500_000 else 1)
    answers = [_by_row(results[m], rows[: counts[m]]) for m in methods if m != "epoch"]
    table = []
    for method in methods:
        whole = seconds[method] * data.size / counts[method]
        row = {
            "transitions": data.size,
            "dimension": data.observations.shape[1],
            "radius": prepared.config.stitching.radius,
            "method": method,
            "queries_timed": counts[method],
            "seconds": round(whole, 4),
            "transitions_per_second": round(data.size / whole),
        }
        if "ckdtree" in seconds and method != "epoch":
            baseline = seconds["ckdtree"] / counts["ckdtree"]
            row["times_ckdtree"] = round(baseline * counts[method] / seconds[method], 2)
        if method == "epoch":
            row |= {k: results[method][k] for k in ("search_backend", "stitched_share")}
            row |= {k: results[method][k] for k in ("edges_walked", "edges_unique")}
        else:
            row["answered_share"] = round(float((results[method] >= 0).mean()), 4)
            row["answers_that_differ"] = _differences(
                answers[0], _by_row(results[method], rows[: counts[method]])
            )
        row["peak_memory_gib"] = round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2
        )
        row["device"] = devices.described()
        table.append(row)
        print("  ".join(f"{k} {v}" for k, v in row.items()), flush=True)
    return table


def _backend(name: str) -> Callable:
    return lambda **search: best_neighbour(**search, backend=name)[0]


def _some(search: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    return search | {"queries": search["queries"][rows], "floor": search["floor"][rows]}


def _by_row(answers: np.ndarray, rows: np.ndarray) -> dict[int, int]:
    return dict(zip(np.sort(rows).tolist(), answers.tolist(), strict=True))


def _differences(first: dict[int, int], second: dict[int, int]) -> int:
    return sum(first[row] != second[row] for row in first.keys() & second.keys())


def cross_check(prepared: Prepared, recorded: Trajectories) -> int:
    """How many of a million queries the two backends answer differently."""
    rng = np.random.default_rng(2)
    states = sized(recorded, CROSS_CHECK_STATES, rng)
    queries = sized(recorded, CROSS_CHECK.value, rng)
    search = prepared.search(states)
    asked = prepared.search(queries)
    search |= {k: asked[k][: CROSS_CHECK.value] for k in ("queries", "floor")}
    cpu, accelerator = (best_neighbour(**search, backend=name) for name in METHODS[1:3])
    differ = int(((cpu[0] != accelerator[0]) | (cpu[1] != accelerator[1])).sum())
    answered = (cpu[0] >= 0).mean()
    print(
        f"cross-check: {len(cpu[0])} queries, {len(search['states'])} states, {answered:.1%} "
        f"answered, {differ} answers differ"
    )
    return differ


def exponents(table: list[dict[str, Any]]) -> dict[str, float]:
    """b of seconds = a · Nᵇ for each method, by least squares in logarithms."""
    fitted = {}
    for method in dict.fromkeys(row["method"] for row in table):
        rows = [row for row in table if row["method"] == method]
        if len(rows) > 1:
            n, seconds = (np.log([row[k] for row in rows]) for k in ("transitions", "seconds"))
            fitted[method] = float(np.polyfit(n, seconds, 1)[0])
    return fitted


def draw(table: list[dict[str, Any]], fitted: dict[str, float], title: str, path: Path) -> None:
    """Seconds against transitions, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for method in dict.fromkeys(row["method"] for row in table):
        rows = [row for row in table if row["method"] == method]
        label = f"{method}, N^{fitted[method]:.2f}" if method in fitted else method
        x, y = ([row[k] for row in rows] for k in ("transitions", "seconds"))
        axes.loglog(x, y, marker="o", label=label)
    axes.set(xlabel="transitions", ylabel="seconds", title=title)
    axes.grid(which="major", alpha=0.4)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(_argv) -> None:
    for training in (CONFIG.value.value, CONFIG.value.dynamics):
        training.steps = TRAINING_STEPS.value
    CONFIG.value.dynamics.members = CONFIG.value.dynamics.elites
    config, options = finalize(CONFIG.value)
    task = get_task(config.environment.name)
    files = DATA.value or [config.dataset.path or config.dataset.name]
    recorded = concatenate([load_dataset(file) for file in files])
    prepared = Prepared(config, task, recorded)
    table = []
    for size in map(int, SIZES.value):
        data = sized(recorded, size, np.random.default_rng(0))
        table += measure(prepared, data, METHOD.value)
    fitted = exponents(table)
    print("  ".join(f"{method}: N^{b:.2f}" for method, b in fitted.items()))
    folder, name = Path(RESULTS.value), NAME.value or options.label
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as file:
        columns = list(dict.fromkeys(column for row in table for column in row))
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(table)
    draw(table, fitted, name, folder / f"{name}.png")
    if CROSS_CHECK.value and cross_check(prepared, recorded):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
