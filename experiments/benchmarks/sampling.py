"""How fast does DDR-I plan, and how much of the machine does it use?

    python -m experiments.benchmarks.sampling [--networks=paper,small,quick] [--batches=1,8,64]
        [--samplers=ancestral:200,ddim:10] [--dtypes=float32,bfloat16] [--name=NAME]

Times one plan of a batch (Algorithm 1, lines 6 to 13: all denoising steps with guidance, as one
program) for networks as `configs/hopper.py` has them at each preset. Every batch is measured with
the network's own sampler, every other sampler, dtype and warm start at `--at_batch`. Weights are
fresh: time does not depend on them. A plan that would take longer than `--budget` seconds is timed
on fewer denoising steps, all of which cost the same, and scaled; `steps_timed` says how many. The
share of the peak is that of square matrix products of the same dtype, measured in the same run.

Prints a table, writes NAME.csv, NAME.json and NAME.png into --results.
"""

import json
import platform
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.tables import device_name, show, write
from tskd_jax.config import UserConfig, finalize, make_config
from tskd_jax.costs.fresh import fresh_trajectory_generator, some_episodes
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.throughput import matmul_flops, matmul_peak
from tskd_jax.presets import PRESETS
from tskd_jax.teacher.diffuser import Diffuser, make_sampler
from tskd_jax.teacher.planning import no_plan, plan
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training.seeds import of_seed

NETWORKS = flags.DEFINE_list("networks", ["paper", "small", "quick"], f"Of {tuple(PRESETS)}.")
BATCHES = flags.DEFINE_list("batches", ["1", "8", "64", "256"], "Trajectories at once.")
SAMPLERS = flags.DEFINE_list(
    "samplers",
    ["ancestral:200", "ddim:50", "ddim:20", "ddim:10", "ddim:5", "dpm++:10"],
    "KIND:STEPS",
)
DTYPES = flags.DEFINE_list("dtypes", ["float32", "bfloat16"], "Of the computation.")
WARM_STARTS = flags.DEFINE_list("warm_starts", ["0.3"], "Share of K to which a plan is re-noised.")
STRIDES = flags.DEFINE_list("strides", ["1", "4", "8"], "Environment steps taken of a plan.")
AT_BATCH = flags.DEFINE_integer("at_batch", 64, "For samplers and dtypes.", 1)
BUDGET = flags.DEFINE_float("budget", 5.0, "Seconds that one plan may take.", 0.0)
REPEATS = flags.DEFINE_integer("repeats", 5, "Of each measurement; the median counts.", 1)
HORIZON = flags.DEFINE_integer("horizon", None, "Tokens of DDR-I; None: as the config has it.", 2)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_sampling", "Folder.")

SHOWN = (
    "network",
    "sampler",
    "steps",
    "dtype",
    "warm_start",
    "batch",
    "milliseconds_per_plan",
    "plans_per_second",
    "share_of_matmul_peak",
)


def hopper(preset: str) -> UserConfig:
    """The config of hopper with the embedded data, as `configs/hopper.py` has it."""
    return make_config("hopper", preset)


def cases(preset: str) -> list[dict[str, Any]]:
    """What is measured of a network: (sampler, steps, dtype, warm start, batch), none twice."""
    own = hopper(preset).sampling
    default = {"sampler": own.sampler, "steps": own.steps, "dtype": "float32", "warm_start": 0.0}
    chosen = [default | {"batch": int(batch)} for batch in BATCHES.value]
    for name in SAMPLERS.value:
        kind, _, steps = name.partition(":")
        chosen.append(default | {"sampler": kind, "steps": int(steps), "batch": AT_BATCH.value})
    chosen += [default | {"dtype": dtype, "batch": AT_BATCH.value} for dtype in DTYPES.value]
    for share in WARM_STARTS.value:
        chosen.append(default | {"warm_start": float(share), "batch": AT_BATCH.value})
    return [case for i, case in enumerate(chosen) if case not in chosen[:i]]


def build(
    preset: str, case: dict[str, Any], recorded: Trajectories
) -> tuple[Diffuser, SamplingConfig]:
    """A fresh DDR-I of that preset, of one seed, and its sampling."""
    config = hopper(preset)
    config.trajectory_generator.dtype = case["dtype"]
    config.trajectory_generator.horizon = HORIZON.value or config.trajectory_generator.horizon
    steps = min(case["steps"], config.trajectory_generator.diffusion_steps)
    # A sampler of (nearly) all levels begins at the last one; few steps begin where the scale says.
    levels = int(config.sampling.start * config.trajectory_generator.diffusion_steps)
    start = config.sampling.start if steps <= levels else 1.0
    config.sampling.update(
        {
            "sampler": case["sampler"],
            "steps": steps,
            "start": start,
            "warm_start": case["warm_start"],
        }
    )
    final, _ = finalize(config)
    models = fresh_trajectory_generator(final, recorded, jax.random.key(0)[None])
    return of_seed(models, 0), final.sampling


def median_seconds(function, *arguments) -> float:
    """Of a compiled function, warm."""
    jax.block_until_ready(function(*arguments))
    spent = []
    for _ in range(REPEATS.value):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        spent.append(time.perf_counter() - begin)
    return float(np.median(spent))


def measure(preset: str, case: dict[str, Any], recorded: Trajectories) -> list[dict[str, Any]]:
    """A row for each stride."""
    model, sampling = build(preset, case, recorded)
    batch, config = case["batch"], model.config
    history = jnp.zeros((batch, config.context, recorded.observations.shape[1]))
    arguments = (model, history, jnp.int32(1), jax.random.split(jax.random.key(0), batch))
    flops = matmul_flops(_planner(sampling), *arguments)
    planned = make_sampler(sampling)
    if sampling.warm_start:
        planned = planned.warm(sampling.warm_start)
    peak = matmul_peak(case["dtype"])
    # Machines differ, so the guess is careful: a quarter of the peak.
    fitting = int(planned.steps * BUDGET.value / (flops / (peak / 4) + 1e-9))
    steps = int(np.clip(fitting, min(2, planned.steps), planned.steps))
    timed = sampling if steps == planned.steps else replace(sampling, steps=steps, warm_start=0.0)
    seconds = median_seconds(jax.jit(_planner(timed)), *arguments) * planned.steps / steps
    shared = {
        "network": preset,
        "horizon": config.horizon,
        **(case | {"steps": planned.steps}),
        "steps_timed": steps,
        "milliseconds_per_plan": 1000 * seconds / batch,
        "milliseconds_per_batch": 1000 * seconds,
        "plans_per_second": batch / seconds,
        "matmul_gflop_per_plan": flops / batch / 1e9,
        "share_of_matmul_peak": flops / seconds / peak,
    }
    return [
        shared
        | {"stride": stride, "milliseconds_per_environment_step": 1000 * seconds / batch / stride}
        for stride in map(int, STRIDES.value)
        if stride < config.horizon
    ]


def _planner(sampling: SamplingConfig):
    def planner(model, history, length, keys):
        earlier = no_plan(model, len(history)) if sampling.warm_start else None
        return plan(model, sampling, history, length, keys, earlier)

    return planner


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """Plans a second against the batch, for each network with its own sampler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for preset in dict.fromkeys(row["network"] for row in table):
        own = cases(preset)[0]
        rows = [
            row
            for row in table
            if row["network"] == preset
            and row["sampler"] == own["sampler"]
            and row["dtype"] == own["dtype"]
            and row["steps"] == own["steps"]
            and row["warm_start"] == 0
            and row["stride"] == int(STRIDES.value[0])
        ]
        rows.sort(key=lambda row: row["batch"])
        label = f"{preset}: {own['sampler']}, {own['steps']} steps"
        axes.loglog(
            [row["batch"] for row in rows],
            [row["plans_per_second"] for row in rows],
            marker="o",
            label=label,
        )
    axes.set(xlabel="batch", ylabel="plans per second")
    axes.grid(which="major", alpha=0.4)
    axes.legend()
    figure.savefig(path, dpi=120)


def main(_argv) -> None:
    recorded = some_episodes()
    table = []
    for preset in NETWORKS.value:
        for case in cases(preset):
            rows = measure(preset, case, recorded)
            table += rows
            show({name: rows[0][name] for name in SHOWN})
    about = {
        "device": device_name(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "matmul_peak_gflops": {dtype: matmul_peak(dtype) / 1e9 for dtype in DTYPES.value},
    }
    path = write(table, RESULTS.value, NAME.value)
    content = json.dumps(about | {"rows": table}, indent=2)
    path.with_name(f"{path.name}.json").write_text(content + "\n")
    draw(table, path.with_name(f"{path.name}.png"))
    show(about)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
