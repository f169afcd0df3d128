"""tskd-jax compile --for=h100|h200|a100|tpu-v5e|tpu-v5p|tpu-v6e[,…] --config=NAME [--devices=N]

Compiles every program of a run for chips that this machine does not have, from shapes alone: does
it fit into memory, which operations does it need, and how long does it take at least? Only the
dataset's size matters: --transitions=N replaces a dataset that is not here. WORKDIR/CHIP.csv and
CHIP.json have all figures (see docs/performance.md). Programs compiled before are not recompiled:
CHIP.json keeps them, the CSV has only those that were asked for.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from tskd_jax.cli import programs
from tskd_jax.cli.flags import needed, parse, workdir
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.machine.silence import silent


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list("for", [], "Chips.", flag_values=values)
    flags.DEFINE_integer("devices", 1, "Of a chip, that share the work.", 1, flag_values=values)
    programs.define(values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    with silent():  # JAX imports the compilers, which complain about missing devices
        import jax  # noqa: F401
    values, given, shown = parse(argv, _define, __doc__ or "")
    if shown:
        return 0
    from tskd_jax.machine import aot
    from tskd_jax.machine.chips import CHIPS

    chosen: list[str] = values["for"].value or []
    if unknown := [name for name in chosen if name not in CHIPS]:
        raise ConfigError(f"--for={unknown[0]}: no such chip; one of {', '.join(CHIPS)}")
    if not chosen:
        raise ConfigError(f"--for=CHIP is needed: of {', '.join(CHIPS)}")
    base = needed(given)
    chips = [CHIPS[name] for name in chosen]
    for chip in chips:
        if problem := aot.missing(chip):
            raise ConfigError(problem)
    aot.prepare()
    folder = workdir(values["workdir"].value, Path("runs") / f"compile-{base.label}")
    found = programs.programs_of_config(base, values["transitions"].value, values["programs"].value)
    for chip in chips:
        _compile(chip, values["devices"].value, found.programs, folder, request)
    return 0


def _compile(
    chip: Any, devices: int, chosen: Sequence[Any], folder: Path, request: Request
) -> None:
    """Compile all programs for a chip, and save the rows after each program."""
    from tskd_jax.costs import report
    from tskd_jax.machine import aot
    from tskd_jax.machine.memory import readable
    from tskd_jax.run import files
    from tskd_jax.run.progress import Bar

    among = aot.devices_of(chip, devices)
    name = chip.name if devices == 1 else f"{devices}x{chip.name}"
    path = folder / f"{name}.json"
    known = report.read(path)
    print(f"\n{chip.title}{f' × {devices}' if devices > 1 else ''}, {readable(chip.memory)}")
    rows: list[dict[str, Any]] = []
    lowered = []
    bar = Bar(sys.stderr, f"{name}: lowered")
    for number, program in enumerate(chosen, 1):
        request.stop_if_requested(f"before {program.name}")
        lowered.append(report.Lowered(program, chip, among))
        bar.update(number, len(chosen), {})
    # Report what cannot fit before spending minutes on compiling the rest.
    for one in lowered:
        if one.arguments > chip.memory:
            print(f"does not fit: {one.program.name} holds {readable(one.arguments)} at least")
    bar = Bar(sys.stderr, f"{name}: compiled")
    for number, one in enumerate(lowered, 1):
        request.stop_if_requested(f"before {one.program.name}")
        rows.append(one.row(known))
        tqdm.write(report.line(rows[-1]))
        bar.update(number, len(lowered), {})
        folder.mkdir(parents=True, exist_ok=True)
        report.write(path, rows, known, chip=chip.name, devices=devices)
    files.write_csv(path.with_suffix(".csv"), [report.flat(row) for row in rows])
    print(report.total(rows, devices), f"{path} and .csv", sep="\n")
