"""What does an imagined step cost, alone and in company?

    python -m experiments.benchmarks.generation [--networks=quick,small] [--trajectories=8,256]
        [--steps=64] [--name=NAME]

Imagines trajectories as the method does (Algorithm 1 as one program, `teacher.imagination`), with
networks and sampling as `configs/hopper.py` has them at each preset, for `--steps` time steps in
which none of them ends. Weights are fresh: time does not depend on them. `times_fewest` compares
the time of a trajectory's step with that of the fewest trajectories in the same run (below 1 is
cheaper in company); `compiled_after_first` counts the programs that XLA compiled in all calls
behind the first, and must be 0. Peak memory is the accelerator's, or on a CPU that of the process
so far, which is why the fewest go first. Prints a table and writes NAME.csv into --results.
"""

import dataclasses
import resource
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.tables import show, write
from tskd_jax.config import finalize, make_config
from tskd_jax.costs.fresh import (
    fresh_inverse_dynamics,
    fresh_trajectory_generator,
    some_episodes,
)
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.presets import PRESETS
from tskd_jax.teacher.imagination import imagine

NETWORKS = flags.DEFINE_list("networks", ["quick", "small"], f"Of {tuple(PRESETS)}.")
TRAJECTORIES = flags.DEFINE_list("trajectories", ["8", "64", "256"], "How many at once.")
STEPS = flags.DEFINE_integer("steps", 64, "Time steps of each.", 1)
REPEATS = flags.DEFINE_integer("repeats", 3, "Of each measurement; the median counts.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_generation", "Folder.")


def peak_memory_gib() -> float:
    """Of the accelerator, or of this process where arrays lie in its memory."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in statistics:
        return statistics["peak_bytes_in_use"] / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(preset: str, recorded: Trajectories) -> list[dict[str, Any]]:
    """A row for each number of trajectories."""
    config, _ = finalize(make_config("hopper", preset))
    endless = dataclasses.replace(
        get_task("hopper"),
        episode_limit=STEPS.value,
        alive=lambda states: jnp.isfinite(states[..., 0]),
    )
    key = jax.random.key(0)[None]  # a single seed
    model = fresh_trajectory_generator(config, recorded, key)
    inverse = fresh_inverse_dynamics(config, recorded, endless, key)
    programs = []

    def listen(event: str, _seconds: float, **_others: Any) -> None:
        if event.endswith("backend_compile_duration"):
            programs.append(event)

    rows = []
    for count in sorted(map(int, TRAJECTORIES.value)):
        starts = np.resize(recorded.initial_observations, (count, recorded.observations.shape[1]))
        spent, compiled = [], []
        for repeat in range(REPEATS.value + 1):
            jax.monitoring.register_event_duration_secs_listener(listen)
            begin = time.perf_counter()
            [made] = imagine(
                model,
                config.sampling,
                endless,
                inverse,
                starts[None],
                jax.random.key(repeat)[None],
                chunk=count,
            )
            spent.append(time.perf_counter() - begin)
            jax.monitoring.unregister_event_duration_listener(listen)
            compiled.append(len(programs))
            programs.clear()
        assert made.size == count * STEPS.value
        milliseconds = 1000 * float(np.median(spent[1:])) / made.size
        rows.append(
            {
                "network": preset,
                "sampler": config.sampling.sampler,
                "sampling_steps": config.sampling.steps,
                "trajectories": count,
                "time_steps": STEPS.value,
                "milliseconds_per_trajectory_step": milliseconds,
                "first_call_seconds": spent[0],
                "compiled_after_first": sum(compiled[1:]),
                "peak_memory_gib": peak_memory_gib(),
            }
        )
        fewest = rows[0]["milliseconds_per_trajectory_step"]
        rows[-1]["times_fewest"] = milliseconds / fewest
        show(rows[-1])
    return rows


def main(_argv) -> None:
    recorded = some_episodes()
    table = [row for preset in NETWORKS.value for row in measure(preset, recorded)]
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
