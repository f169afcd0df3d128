"""tskd-jax compile --for=h100|h200|a100|tpu-v5e|tpu-v5p|tpu-v6e[,…] --config=NAME [--devices=N]

Every program of a run at that config is compiled for chips that are not here, from shapes alone:
does it fit, what does it do, how long does it take at least. Only the dataset's size matters:
--transitions=N stands for one that is not on this machine. WORKDIR/CHIP.csv and CHIP.json have all
figures (docs/performance.md says what they mean). What was compiled before is not compiled again.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from tqdm import tqdm

from tskd_jax.cli.flags import needed, parse, workdir
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.machine.silence import silent


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_list("for", [], "Chips.", flag_values=values)
    flags.DEFINE_integer("devices", 1, "Of a chip, that share the work.", 1, flag_values=values)
    flags.DEFINE_integer(
        "transitions", None, "Of a dataset that is not here.", 1, flag_values=values
    )
    flags.DEFINE_list("programs", [], "Only these, as trajectory_generator.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where the figures go.", flag_values=values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    with silent():  # JAX imports the compilers, which look for devices
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
    base = needed(given).copy_and_resolve_references()
    chips = [CHIPS[name] for name in chosen]
    for chip in chips:
        if problem := aot.missing(chip):
            raise ConfigError(problem)
    aot.prepare()
    folder = workdir(values["workdir"].value, Path("runs") / f"compile-{base.label}")
    programs = _programs(base, values["transitions"].value, values["programs"].value)
    for chip in chips:
        _compile(chip, values["devices"].value, programs, folder, request)
    return 0


def _programs(base: Any, transitions: int | None, only: Sequence[str]) -> list[Any]:
    """The programs of a config that are asked for.

    Raises:
      ConfigError: one that is asked for is none of them.
      DatasetError: the dataset is not here, and no number stands for it.
    """
    from tskd_jax.cli.comparison import comparisons
    from tskd_jax.config import finalize
    from tskd_jax.costs.fresh import stand_in
    from tskd_jax.costs.programs import programs_of
    from tskd_jax.data.load import load_dataset
    from tskd_jax.envs import own
    from tskd_jax.envs.entries import OWN, get_task

    config, _ = finalize(base)
    source, environment = config.dataset.source, config.environment
    if transitions is None:
        recorded = load_dataset(source)
    elif environment.name == OWN:
        raise ConfigError("--transitions stands for data of an environment that is known by name")
    else:
        recorded = stand_in(get_task(environment.name), transitions)
    task = own.task_of(environment, recorded, source)
    print(f"{base.label}: {recorded.size} transitions; tracing its programs", flush=True)
    found = programs_of(config, comparisons(config), recorded, task)
    names = [one.name for one in found]
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(f"--programs={unknown[0]}: none of this config's: {', '.join(names)}")
    return [one for one in found if not only or one.name in only]


def _compile(
    chip: Any, devices: int, programs: Sequence[Any], folder: Path, request: Request
) -> None:
    """Compile all for a chip, and write the table as far as it is known after each."""
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
    for number, program in enumerate(programs, 1):
        request.stop_if_requested(f"before {program.name}")
        lowered.append(report.Lowered(program, chip, among))
        bar.update(number, len(programs), {})
    # What cannot fit is said before minutes are spent on what can.
    for one in lowered:
        if one.arguments > chip.memory:
            print(f"does not fit: {one.program.name} holds {readable(one.arguments)} at least")
    bar = Bar(sys.stderr, f"{name}: compiled")
    for number, one in enumerate(lowered, 1):
        request.stop_if_requested(f"before {one.program.name}")
        row = known.get(one.key) or one.compile()
        rows.append(row | one.of_program() | {"key": one.key})
        tqdm.write(report.line(rows[-1]))
        bar.update(number, len(lowered), {})
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {"chip": chip.name, "devices": devices, "programs": rows})
    files.write_csv(path.with_suffix(".csv"), [report.flat(row) for row in rows])
    print(report.total(rows, devices), f"{path} and .csv", sep="\n")
