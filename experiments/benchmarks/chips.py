"""What uses a chip that is not here best: how many seeds, which batch, which dtype?

    python -m experiments.benchmarks.chips --for=h100 --config=configs/hopper.py:paper
        [--seeds=1,2,5] [--vary=SECTION.FIELD=VALUE,VALUE,… …]
        [--programs=trajectory_generator,imagination] [--devices=N] [--name=NAME]

Compiles the programs of a config for a chip, as `tskd-jax compile` does, at every combination of
numbers of pipeline seeds and of fields' values. A row has the costs of a turn of a stage's largest
program, and the seconds at least that all programs of the stage take in a run, for each seed
(`of_a_seed`); `times_first` is the latter over that of the stage's first row. What does not fit has
no seconds. Prints a table and writes NAME.csv into --results, after every row; what was compiled
before is read from NAME.json.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from ml_collections import config_flags

from experiments.tables import show
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.cli.programs import programs_of_config
from tskd_jax.cli.sweep import changed, parse_values
from tskd_jax.costs import report
from tskd_jax.errors import ConfigError
from tskd_jax.machine import aot
from tskd_jax.machine.chips import CHIPS, Chip
from tskd_jax.machine.signals import Request
from tskd_jax.run import files

CHIP = flags.DEFINE_enum("for", "h100", tuple(CHIPS), "The chip.")
CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:paper")
SEEDS = flags.DEFINE_list("seeds", ["1"], "Numbers of pipeline seeds.")
VARY = flags.DEFINE_multi_string("vary", [], "SECTION.FIELD=VALUE,VALUE,…")
PROGRAMS = flags.DEFINE_list("programs", ["trajectory_generator", "imagination"], "Which.")
DEVICES = flags.DEFINE_integer("devices", 1, "Of the chip.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the config's and the chip's.")
RESULTS = flags.DEFINE_string("results", "experiments/results/chips", "Folder.")

SHOWN = (
    *("once", "times", "fits", "peak_bytes", "flops", "bytes_moved"),
    *("kernels", "layout_copies", "collective_bytes"),
    *("cycles", "seconds", "share_of_peak"),
)


def points(
    base: Any, seeds: Sequence[int], vary: Sequence[str]
) -> list[tuple[dict[str, Any], Any]]:
    """(what is varied -> value, the config with it) of every combination.

    Args:
      base: a user's config.
      seeds: numbers of pipeline seeds.
      vary: SECTION.FIELD=VALUE,VALUE,… each.

    Raises:
      ConfigError: no such field, or no value of its kind.
    """
    fields = dict(parse_values(base, argument) for argument in vary)
    found = []
    for count, *values in itertools.product(seeds, *fields.values()):
        named = dict(zip(fields, values, strict=True))
        config = changed(base, {name: fields[name][value] for name, value in named.items()})
        config.seeds, config.seed_axis = tuple(range(count)), "pipeline"
        found.append(({"seeds": count} | named, config))
    return found


def compiled(
    chip: Chip, devices: int, chosen: Sequence[tuple[dict[str, Any], Any]], only: list[str]
) -> Iterator[tuple[dict[str, Any], list[report.Lowered]]]:
    """Every stage that is asked for at every point: (what it is, its programs, not yet compiled).

    Raises:
      ConfigError: a config has no such stage.
    """
    among = aot.devices_of(chip, devices)
    for varied, config in chosen:
        found = programs_of_config(config, None, []).programs
        stages = list(dict.fromkeys(one.stage for one in found))
        for stage in only or stages:
            if stage not in stages:
                raise ConfigError(f"--programs={stage}: none of {', '.join(stages)}")
            about = {"program": stage, "chip": chip.name, "devices": devices} | varied
            yield about, [report.Lowered(one, chip, among) for one in found if one.stage == stage]


def compared(
    table: Sequence[dict[str, Any]], row: dict[str, Any], parts: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """A row with the seconds of a seed in a run, and how many times those of its stage's first row.

    Seconds of a turn cannot be compared: with more seeds, a chunk of imagination has fewer
    trajectories of each, and a run has more chunks.

    Args:
      table: the rows before it.
      row: what is varied, and costs of a turn.
      parts: the rows of all programs of the stage.
    """
    if not all(part.get("seconds") for part in parts):
        return row | {"of_a_seed": "", "times_first": ""}
    seconds = sum(part["seconds"] * max(1, part["times"]) for part in parts)
    row = row | {"of_a_seed": seconds / row["seeds"]}
    first = next((other for other in table if other["program"] == row["program"]), row)
    times = row["of_a_seed"] / first["of_a_seed"] if first["of_a_seed"] else ""
    return row | {"times_first": times}


def compile_all(request: Request) -> int:
    """The table; gives the exit status."""
    chip = CHIPS[CHIP.value]
    if problem := aot.missing(chip):
        raise ConfigError(problem)
    aot.prepare()
    chosen = points(CONFIG.value, [int(count) for count in SEEDS.value], VARY.value)
    path = Path(RESULTS.value) / f"{NAME.value or f'{CONFIG.value.label}-{chip.name}'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known, kept, table = report.read(path), [], []
    for about, lowered in compiled(chip, DEVICES.value, chosen, PROGRAMS.value):
        parts = []
        for one in lowered:
            request.stop_if_requested(f"before {one.program.name}")
            parts.append(one.row(known))
            kept.append(parts[-1])
            report.write(path, kept, known)
        largest = report.flat(parts[0])
        shown = {name: largest[name] for name in SHOWN}
        table.append(compared(table, about | shown, parts))
        show(table[-1])
        files.write_csv(path.with_suffix(".csv"), table)
    return 0


def main(_argv) -> int:
    return run_to_exit_status(compile_all)


if __name__ == "__main__":
    app.run(main)
