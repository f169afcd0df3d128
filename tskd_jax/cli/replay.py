"""tskd-jax replay summary.json [--workdir=DIR]

Repeats the run of a summary and reports whether every stage gave the same result, bit for bit.
A folder that holds a finished run is refused, as nothing would be repeated there.
"""

import os
from pathlib import Path

from absl import flags

from tskd_jax.cli.flags import parse_words, workdir
from tskd_jax.cli.run import run, show
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.machine.signals import Request


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "Everything the run makes.", flag_values=values)


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    values, words, shown = parse_words(argv, _define, __doc__ or "")
    if shown:
        return 0
    if len(words) != 1:
        raise ConfigError("tskd-jax replay takes one summary.json")
    return repeat(Path(words[0]), values["workdir"].value, request)


def repeat(path: Path, folder: str | None, request: Request) -> int:
    """Repeat the run of a summary; returns 0 if the results match, else 1.

    Raises:
      ReplayError: the file is no such summary.
      WorkdirError: the folder holds a finished run, or is that of the summary.
    """
    from tskd_jax.machine import devices
    from tskd_jax.report import replay

    path = Path(os.path.expanduser(path))
    before, config = replay.read(path)
    place = workdir(folder, Path("runs") / f"{path.resolve().parent.name}-replay")
    # Its stages would only be loaded, and match whatever this machine computes.
    if place.resolve() == path.resolve().parent or (place / "summary.json").exists():
        raise WorkdirError(
            f"{place}: holds a finished run, so nothing would be repeated; choose another "
            "--workdir, or remove this one"
        )
    devices.check()
    after = run(config, place, request)
    assert after is not None  # no --stop_after was given
    show(after, place)
    problems = replay.differences(before, after)
    print(f"\n{path}: " + ("; ".join(problems) if problems else replay.MATCHES))
    return 1 if problems else 0
