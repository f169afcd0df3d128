"""tskd-jax bench --config=NAME [--against=SECTION.FIELD=VALUE …] [--seconds=5] [--programs=NAME,…]

Measures how fast a run is on the devices of this machine: each of its compiled programs, the search
and a student's decision. Figures are medians after a warm-up, in alternation with square matrix
products of the same dtype, of whose rate they are a share. --against measures the same with fields
changed, in alternation. Only the search depends on the data, all else on their size:
--transitions=N replaces a dataset that is not here. A turn that must take longer than --seconds, at
the products' rate, is left out. WORKDIR/DEVICE.csv has all figures (see docs/performance.md).
"""

import sys
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from tskd_jax.cli import programs
from tskd_jax.cli.flags import needed, parse, workdir
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("against", [], "SECTION.FIELD=VALUE", flag_values=values)
    flags.DEFINE_float("seconds", 5.0, "For each program, about.", 0.0, flag_values=values)
    programs.define(values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    values, given, shown = parse(argv, _define, __doc__ or "")
    if shown:
        return 0
    base = needed(given)
    import jax

    from tskd_jax.cli.sweep import changed, grid
    from tskd_jax.costs import bench
    from tskd_jax.costs.programs import SEARCH
    from tskd_jax.costs.report import total
    from tskd_jax.machine import devices
    from tskd_jax.run import files
    from tskd_jax.run.progress import Bar

    against: list[str] = values["against"].value or []
    points = grid(base, against)
    if len(points) > 1:
        raise ConfigError(f"--against={against[0]}: one value of each field is compared")
    devices.check()
    transitions, only = values["transitions"].value, values["programs"].value
    found = programs.programs_of_config(base, transitions, only)
    others = {}
    if against:
        compared = programs.programs_of_config(changed(base, points[0][0]), transitions, [])
        others = {one.name: one for one in compared.programs}
    folder = workdir(values["workdir"].value, Path("runs") / f"bench-{base.label}")
    kind = jax.devices()[0].device_kind
    about = {
        "device": devices.described(),
        "jax": jax.__version__,
        "python": sys.version.split()[0],
    }
    print("  ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    path = folder / f"{kind.replace(' ', '-').lower()}.csv"
    rows: list[dict[str, Any]] = []
    seconds = values["seconds"].value
    bar = Bar(sys.stderr, "measured")

    def note(row: dict[str, Any]) -> None:
        rows.append(row)
        tqdm.write(bench.line(row))
        files.write_csv(path, [bench.flat(one) | about for one in rows])

    folder.mkdir(parents=True, exist_ok=True)
    for number, program in enumerate(found.programs, 1):
        request.stop_if_requested(f"before {program.name}")
        if program.name == SEARCH:
            row = bench.measure_search(found.config.stitching, found.recorded, seconds)
        else:
            row = bench.measure(program, seconds, others.get(program.name))
        note(row)
        bar.update(number, len(found.programs), {})
    if not only:
        hidden = found.config.student.hidden
        note(bench.measure_decision(hidden, found.recorded, found.task, min(seconds, 1.0)))
    print(total(rows, jax.device_count(), bound=False), path, sep="\n")
    return 0
