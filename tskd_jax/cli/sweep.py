"""tskd-jax sweep --config=NAME --grid=SECTION.FIELD=VALUE,VALUE,… [--grid=…] [--seeds=0,1,…]

A run for each combination of the values, in WORKDIR/FIELD=VALUE,…. A stage that is made of the same
as one of a run before is taken from it: the teacher is trained once for a sweep over stitching.
WORKDIR/sweep.csv has a row for each run, filled when it ends: the fields, the score of the last of
config.methods (mean and standard error over seeds; interquartile mean with its 95% interval) and
the seconds spent on what was not taken over. WORKDIR/FIELD.png shows the score over each field.
Interrupted or killed, the same command goes on; with more values it adds runs.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from tskd_jax.cli.flags import check_name, needed, parse, workdir
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("grid", [], "SECTION.FIELD=VALUE,VALUE,…", flag_values=values)
    flags.DEFINE_list("seeds", None, "Whole numbers, instead of config.seeds.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Everything the sweep makes.", flag_values=values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    values, given, shown = parse(argv, _define, __doc__ or "")
    if shown:
        return 0
    from tskd_jax.machine import devices
    from tskd_jax.report.sweep import plot, row_text, write

    base = needed(given).copy_and_resolve_references()
    if values["seeds"].value is not None:
        if not all(seed.isdecimal() for seed in values["seeds"].value):
            raise ConfigError(f"--seeds={','.join(values['seeds'].value)}: whole numbers are meant")
        base.seeds = tuple(map(int, values["seeds"].value))
    if not values["grid"].value:
        raise ConfigError("--grid=SECTION.FIELD=VALUE,VALUE,… is needed")
    points = grid(base, values["grid"].value)
    if base.distributed != "off":
        raise ConfigError("distributed: a sweep is one process; its runs may be jobs of their own")
    devices.check()
    folder = workdir(values["workdir"].value, Path("runs") / f"sweep-{base.label}")
    rows = [_row(point, config, folder) for point, config in points]
    write(rows, folder)
    for place, (point, config) in enumerate(points):
        rows[place] = _one_run(point, config, folder, request)
        write(rows, folder)
        plot(rows, list(point), folder)
    for row in rows:
        print(row_text(row))
    return 0


def _row(point: dict[str, Any], config: tuple[Any, Any], folder: Path) -> dict[str, Any]:
    from tskd_jax.config import to_plain
    from tskd_jax.report.sweep import row_of

    return row_of(point, to_plain(config[0]), folder)


def _one_run(
    point: dict[str, Any], config: tuple[Any, Any], folder: Path, request: Request
) -> dict[str, Any]:
    """The row of a run, which is made or goes on if it is not finished."""
    from tskd_jax.cli.run import run
    from tskd_jax.report.sweep import is_filled, name_of

    known = _row(point, config, folder)
    if is_filled(known):
        return known
    place = folder / name_of(point)
    print(f"\n{place}", flush=True)
    others = [path.parent for path in sorted(folder.glob("*/manifest.json"))]
    reuse = [other for other in others if other != place]
    final, options = config
    run(final, place, request, None, options.checkpoint_seconds, reuse)
    return _row(point, config, folder)


def grid(base: ConfigDict, arguments: Sequence[str]) -> list[tuple[dict[str, Any], tuple]]:
    """(field -> value, (final config, options)) for each combination of the values.

    Args:
      base: a user's config.
      arguments: SECTION.FIELD=VALUE,VALUE,… each.

    Raises:
      ConfigError: an argument names no plain field, or no value of its kind, or anything twice; or
        a config would not be valid.
    """
    from tskd_jax.config import finalize

    fields: dict[str, Any] = {}
    for argument in arguments:
        name, values = parse_values(base, argument)
        if name in fields:
            raise ConfigError(f"{argument}: {name} is there twice")
        if len(set(values.values())) < argument.count(",") + 1:
            raise ConfigError(f"{argument}: a value is there twice")
        fields[name] = values.values()
    points = [
        dict(zip(fields, point, strict=True)) for point in itertools.product(*fields.values())
    ]
    return [(point, finalize(changed(base, point))) for point in points]


def parse_values(base: ConfigDict, argument: str) -> tuple[str, dict[str, Any]]:
    """(the field's name, its values by how they are written) of SECTION.FIELD=VALUE,VALUE,….

    Raises:
      ConfigError: as of `grid`.
    """
    name, _, values = argument.partition("=")
    check_name(name)
    section, _, field = name.rpartition(".")
    if not section:
        raise ConfigError(f"{argument}: a field of a section is meant")
    kind = type(base.to_dict()[section][field])
    if kind not in (bool, int, float, str):
        raise ConfigError(f"{argument}: a {kind.__name__} cannot be varied")
    return name, {value: _read(argument, kind, value) for value in values.split(",")}


def _read(argument: str, kind: type, value: str) -> Any:
    try:
        return {"True": True, "False": False}[value] if kind is bool else kind(value)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{argument}: {value!r} is no {kind.__name__}") from error


def changed(base: ConfigDict, fields: dict[str, Any]) -> ConfigDict:
    """A user's config with some fields "section.field" changed."""
    config: Any = base.copy_and_resolve_references()
    for name, value in fields.items():
        section, _, field = name.rpartition(".")
        config[section][field] = value
    return config
