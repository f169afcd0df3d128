"""Runs of the whole method over a grid of fields, what they share computed once.

    python experiments/sweep.py [--config=configs/hopper.py:quick] [--workdir=runs/sweep-LABEL]
        --grid=stitching.radius=0.05,0.1,0.2 [--grid=sampling.guidance=1.2,1.6] [--seeds=0,1,2,3,4]

Each combination of the values is a run in a folder of its own, as of the command, in
WORKDIR/FIELD=VALUE,…. A stage whose inputs are those of a run before is taken over from it: the
teacher is trained once for a sweep over stitching. WORKDIR/sweep.csv has a row for each run, filled
when it ends: the fields, the number of seeds, TSKD's normalised score (mean and standard error over
seeds; interquartile mean over episodes with its 95% interval) and the seconds spent on what was not
taken over. WORKDIR/FIELD.png shows the score over each field.

Interrupted or killed, the same command goes on; with more values it adds runs. A run already there
with another config, as of another --config or other --seeds, is refused.
"""

import sys
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags
from sweep_table import is_filled, name_of, plot, row_of, write
from tables import show
from variants import grid

from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.machine.types import Config
from tskd_jax.main import told_in_one_line
from tskd_jax.methods.method import tskd
from tskd_jax.report import report
from tskd_jax.run.run import Run

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:quick")
GRID = flags.DEFINE_multi_string("grid", [], "SECTION.FIELD=VALUE,VALUE,…")
SEEDS = flags.DEFINE_list("seeds", None, "Whole numbers; None: as the config has it.")
WORKDIR = flags.DEFINE_string("workdir", None, "Everything the sweep makes.")


def main(_argv) -> int:
    return told_in_one_line(sweep)


def sweep(request: Request) -> int:
    """All runs, one after another; gives the exit status."""
    base = CONFIG.value.copy_and_resolve_references()
    if SEEDS.value is not None:
        if not all(seed.isdecimal() for seed in SEEDS.value):
            raise ConfigError(f"--seeds={','.join(SEEDS.value)}: whole numbers are meant")
        base.seeds = tuple(map(int, SEEDS.value))
    if not GRID.value:
        raise ConfigError("--grid=SECTION.FIELD=VALUE,VALUE,… is needed")
    points = grid(base, GRID.value)
    if any(config.distributed != "off" for _, config in points):
        raise ConfigError("distributed: a sweep is one process; its runs may be jobs of their own")
    folder = Path(WORKDIR.value or Path("runs") / f"sweep-{base.label}")
    rows = [row_of(point, config, folder) for point, config in points]
    write(rows, folder)
    for place, (point, config) in enumerate(points):
        rows[place] = one_run(point, config, folder, request)
        write(rows, folder)
        plot(rows, list(point), folder)
    for row in rows:
        show(row)
    return 0


def one_run(point: dict, config: Config, folder: Path, request: Request) -> dict:
    """The row of a run, which is made or goes on if it is not finished."""
    known = row_of(point, config, folder)
    if is_filled(known):
        return known
    workdir = folder / name_of(point)
    run = Run(workdir, config, request=request)
    try:
        run.say(f"\n{workdir}")
        for other in sorted(folder.iterdir()):
            if other != workdir and (other / "manifest.json").exists():
                taken = run.adopt(other)
                if taken:
                    run.say(f"  from {other.name}: {', '.join(taken)}")
        report.write(config, tskd(config, run), run)
    finally:
        run.close()
    return row_of(point, config, folder)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
