"""tskd-jax sweep --config=NAME --grid=SECTION.FIELD=VALUE,VALUE,… [--grid=…] [--seeds=0,1,…]

Makes a run for each combination of values, in WORKDIR/FIELD=VALUE,…. A stage with the same inputs
as one of an earlier run is reused: a sweep over stitching trains the teacher only once.
WORKDIR/sweep.csv has a row for each run, filled when it ends: the fields, the score of the last of
config.methods (mean and standard error over seeds; interquartile mean with its 95% interval) and
the seconds spent on stages that were not reused. WORKDIR/FIELD.png shows the score over each field.
If interrupted or killed, the same command resumes; with more values it adds runs. A folder that
holds something else, or results that are not in this grid, is refused and left as it is.

--launcher=none (the default) executes the runs one after another in this process. local:N executes
N at a time, each in a process with its share of cores or devices; slurm makes each a job of one
array (--slurm=time=MINUTES, --slurm=partition=NAME and so on). If several runs need a stage, one of
them computes it and the others wait. WORKDIR/output/RUN.txt has the output of a run's process.
"""

import csv
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from tskd_jax.cli import launchers
from tskd_jax.cli.flags import check_name, needed, parse, workdir
from tskd_jax.cli.sweep_run import CLAIMS, OUTPUT, Task
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.machine.signals import Request

OWN_FILES = ("lock", CLAIMS, OUTPUT)  # left by a sweep that was killed at its start

Points = list[tuple[dict[str, Any], tuple]]
"""(field -> value, (final config, options)) of each run."""


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("grid", [], "SECTION.FIELD=VALUE,VALUE,…", flag_values=values)
    flags.DEFINE_list("seeds", None, "Whole numbers, instead of config.seeds.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Everything the sweep makes.", flag_values=values)
    flags.DEFINE_string("launcher", launchers.NONE, launchers.FORM, flag_values=values)
    flags.DEFINE_multi_string(
        "slurm", [], "OPTION=VALUE of sbatch, such as time=MINUTES or mem=16G.", flag_values=values
    )


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    values, given, shown = parse(argv, _define, __doc__ or "")
    if shown:
        return 0
    from tskd_jax.report.sweep import row_text

    base = needed(given).copy_and_resolve_references()
    if values["seeds"].value is not None:
        if not all(seed.isdecimal() for seed in values["seeds"].value):
            raise ConfigError(f"--seeds={','.join(values['seeds'].value)}: whole numbers are meant")
        base.seeds = tuple(map(int, values["seeds"].value))
    if not values["grid"].value:
        raise ConfigError("--grid=SECTION.FIELD=VALUE,VALUE,… is needed")
    points = grid(base, values["grid"].value)
    if base.distributed != "off":
        raise ConfigError(
            f"config.distributed={base.distributed}: a sweep's run is one process; allowed is off, "
            f"with --launcher={launchers.FORM}; `tskd-jax run` makes one run on several hosts"
        )
    launch = launchers.chosen(values["launcher"].value, values["slurm"].value)
    folder = workdir(values["workdir"].value, Path("runs") / f"sweep-{base.label}")
    _check_folder(points, folder)
    with _held(folder):
        table = Table(points, folder)
        failures = launch(table.left(), table.update, request)
    for row in table.rows:
        print(row_text(row))
    for name, problem in failures.items():
        print(f"tskd-jax: {name}: {problem}", file=sys.stderr)
    return 2 if failures else 0


def _check_folder(points: Points, folder: Path) -> None:
    """Refuse a folder in which this sweep would lose or meet something else; writes nothing.

    Raises:
      WorkdirError: it holds no sweep, results that are not in the grid, or runs of other configs.
    """
    from tskd_jax.config import to_plain
    from tskd_jax.report.sweep import name_of
    from tskd_jax.run.folder import check

    try:
        there = {path.name for path in folder.iterdir()}
        there -= {path.name for path in folder.glob(".sweep.csv.*partial")}
    except FileNotFoundError:
        there = set()
    except OSError as error:
        raise WorkdirError(
            f"{folder}: cannot be used ({error.strerror}); choose another --workdir"
        ) from error
    if "sweep.csv" in there:
        _check_table([point for point, _ in points], folder / "sweep.csv")
    elif there - {*OWN_FILES, *(name_of(point) for point, _ in points)}:
        raise WorkdirError(f"{folder} is not empty and holds no sweep; choose another --workdir")
    for point, (config, _) in points:
        check(folder / name_of(point), to_plain(config))


def _check_table(points: list[dict[str, Any]], path: Path) -> None:
    """Refuse to replace an earlier table that has the result of a run outside the grid.

    Raises:
      WorkdirError: the message names the run.
    """
    from tskd_jax.report.sweep import FACTS, RESULTS, is_filled, name_of
    from tskd_jax.run.files import rounded

    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (ValueError, csv.Error):
        rows, columns = [], []
    if not {*RESULTS} <= {*columns}:
        raise WorkdirError(f"{path}: not the table of a sweep; choose another --workdir")
    fields = [name for name in columns if name not in ("seeds", *RESULTS, *FACTS)]
    grid = [{field: str(rounded(value)) for field, value in point.items()} for point in points]
    for row in filter(is_filled, rows):
        if (earlier := {field: row[field] for field in fields}) not in grid:
            raise WorkdirError(
                f"{path}: has the result of {name_of(earlier)}, which is not in this grid; give "
                "its values too, or choose another --workdir"
            )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A context that locks the sweep's folder: only one process may write its table.

    Raises:
      InUseError: another process runs a sweep there.
    """
    from tskd_jax.run import lock

    folder.mkdir(parents=True, exist_ok=True)
    with lock.hold(folder / "lock"):
        yield
    with suppress(OSError):  # there is no such folder, or a run of another launcher is active
        (folder / CLAIMS).rmdir()


class Table:
    """The sweep's table and figures, which are written as runs end.

    Args:
      points: as from `grid`.
      folder: the sweep's folder.

    Attributes:
      rows: one per run, in the order of the grid; see `report.sweep.row_of`.
    """

    def __init__(self, points: Points, folder: Path):
        from tskd_jax.config import to_plain
        from tskd_jax.report import sweep

        self._points = {sweep.name_of(point): point for point, _ in points}
        self._tasks = {
            name: Task(
                sweep=str(folder),
                name=name,
                config=to_plain(config),
                checkpoint_seconds=options.checkpoint_seconds,
                others=[other for other in self._points if other != name],
            )
            for name, (_, (config, options)) in zip(self._points, points, strict=True)
        }
        self._folder = folder
        self.rows = [self._row(name) for name in self._points]
        sweep.write(self.rows, folder)

    def left(self) -> list[Task]:
        """The runs that are not finished."""
        from tskd_jax.report.sweep import is_filled

        tasks = zip(self._tasks.values(), self.rows, strict=True)
        return [task for task, row in tasks if not is_filled(row)]

    def update(self, task: Task) -> dict[str, Any]:
        """Read and write the row of a run that has ended; returns the row."""
        from tskd_jax.report import sweep

        row = self.rows[list(self._tasks).index(task.name)] = self._row(task.name)
        sweep.write(self.rows, self._folder)
        if any(map(sweep.is_filled, self.rows)):
            sweep.plot(self.rows, list(self._points[task.name]), self._folder)
        return row

    def _row(self, name: str) -> dict[str, Any]:
        from tskd_jax.report.sweep import row_of

        return row_of(self._points[name], self._tasks[name].config, self._folder)


def grid(base: ConfigDict, arguments: Sequence[str]) -> Points:
    """Make (field -> value, (final config, options)) for each combination of the values.

    Args:
      base: a user's config.
      arguments: each SECTION.FIELD=VALUE,VALUE,….

    Raises:
      ConfigError: an argument does not name a scalar field of a section, a value has the wrong
        type, a field or value is given twice, two runs would share a folder, or a resulting config
        is invalid.
    """
    from tskd_jax.config import finalize
    from tskd_jax.report.sweep import name_of

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
    names: dict[str, dict[str, Any]] = {}
    for point in points:
        if point != (other := names.setdefault(name_of(point), point)):
            both = (",".join(f"{f}={v}" for f, v in one.items()) for one in (other, point))
            raise ConfigError(f"--grid: {' and '.join(both)} have the same folder {name_of(point)}")
    return [(point, finalize(changed(base, point))) for point in points]


def parse_values(base: ConfigDict, argument: str) -> tuple[str, dict[str, Any]]:
    """Parse SECTION.FIELD=VALUE,VALUE,…; returns (the field's name, text of a value -> value).

    Raises:
      ConfigError: as for `grid`.
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
    """A copy of a user's config with some fields "section.field" changed."""
    config: Any = base.copy_and_resolve_references()
    for name, value in fields.items():
        section, _, field = name.rpartition(".")
        config[section][field] = value
    return config
