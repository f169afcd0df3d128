"""How long does a large file take to be read, checked and put on the device, and how much memory?

    python -m experiments.benchmarks.loading [--rows=2000000] [--name=NAME]

Writes a random walk in D4RL's format (walker2d's sizes, episodes of 1,000 steps), then for each
--format loads it: `hdf5`, and what `tskd-jax convert` could have been given: `npz`, `csv`,
`parquet`. Each is loaded in a process of its own, so that the peak of its memory is its own. A row
for each: `megabytes` of the file, `seconds` until the trajectories are on the device, `peak`: of
the process's memory above what it had before, in sizes of the data in single precision. Writes
NAME.csv in --results.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import app, flags

ROWS = flags.DEFINE_integer("rows", 2_000_000, "Transitions.", 2000)
FORMATS = flags.DEFINE_list("format", ["hdf5", "npz"], "Of hdf5, npz, csv, parquet.")
LOAD = flags.DEFINE_string("load", None, "Load this file and print the figures (a child process).")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_loading", "Folder.")

STATES, ACTIONS, LENGTH = 17, 6, 1000


def peak() -> int:
    """Bytes of memory at most since `forget_peak` (Linux).

    `getrusage` would begin with the peak of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def forget_peak() -> None:
    """From now on, the peak is of what follows."""
    Path("/proc/self/clear_refs").write_text("5")


def load(path: str) -> dict[str, float]:
    """Seconds and memory of one file."""
    import jax

    from tskd_jax.data import load_dataset

    jax.block_until_ready(jax.device_put(np.zeros(1)))
    forget_peak()
    before, begin = peak(), time.perf_counter()
    data = jax.block_until_ready(jax.device_put(load_dataset(path)))
    seconds = time.perf_counter() - begin
    size = data.size * 4 * (2 * STATES + ACTIONS + 1)
    return {"seconds": seconds, "peak": (peak() - before) / size}


def walk(rows: int) -> dict[str, np.ndarray]:
    """D4RL's columns."""
    rng = np.random.default_rng(0)
    states = np.cumsum(rng.normal(0, 0.01, (rows + 1, STATES)), 0).astype(np.float32)
    timeouts = np.arange(rows) % LENGTH == LENGTH - 1
    following = states[1:].copy()
    following[timeouts] += 1
    return {
        "observations": states[:-1],
        "next_observations": following,
        "actions": rng.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": timeouts,
    }


def write_file(columns: dict[str, np.ndarray], path: Path) -> None:
    """The columns in the format that the name ends with."""
    if path.suffix == ".npz":
        np.savez(path, **columns)
        return
    if path.suffix == ".hdf5":
        import h5py

        with h5py.File(path, "w") as file:
            for key, column in columns.items():
                file[key] = column
        return
    named = {}
    for key, column in columns.items():
        name = key.removesuffix("s")
        if column.ndim == 1:
            named[name] = column
        else:
            named |= {f"{name}_{i}": column[:, i] for i in range(column.shape[1])}
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet

        pa.parquet.write_table(pa.table(named), path)
        return
    table = np.stack([np.asarray(column, np.float32) for column in named.values()], 1)
    np.savetxt(path, table, "%.9g", ",", header=",".join(named), comments="")


def main(_argv) -> None:
    if LOAD.value:
        print(json.dumps(load(LOAD.value)))
        return
    from experiments.tables import show, write

    table = []
    columns = walk(ROWS.value)
    with tempfile.TemporaryDirectory() as folder:
        for kind in FORMATS.value:
            path = Path(folder) / f"data.{kind}"
            write_file(columns, path)
            command = [sys.executable, "-m", "experiments.benchmarks.loading", f"--load={path}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout.strip().splitlines()[-1])
            size = path.stat().st_size
            table.append({"format": kind, "rows": ROWS.value, "megabytes": size / 1e6} | figures)
            show(table[-1])
            path.unlink()
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
