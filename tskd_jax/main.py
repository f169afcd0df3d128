"""The command: from a dataset to a distilled policy.

python -m tskd_jax.main --config=configs/hopper.py[:SCALE,LEVEL] [--config.FIELD=VALUE …]
python -m tskd_jax.main --replay=summary.json    repeats a run and says whether it matches
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from tskd_jax.errors import ConfigError, TskdError
from tskd_jax.machine.memory import is_exhausted
from tskd_jax.machine.signals import Interrupted, Request, listening

# What a dependency prints while it is imported is no business of the user's.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


GO_ON = "the same command goes on from here"


def console() -> None:
    """The `tskd-jax` command."""
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Run the command line and return the exit status.

    0: done. 1: a replay that does not match. 2: an error of the input or of the machine, told in
    one line. 130 and 143: ended by SIGINT or SIGTERM; the same command goes on.
    In a job of several processes another one's end is status 2, too.
    """
    return told_in_one_line(lambda request: _main(list(argv), request))


def told_in_one_line(command: Callable[[Request], int]) -> int:
    """The exit status of a command, as of `main`; what ends it is told in one line.

    Args:
      command: told whether a signal asks it to end; gives its exit status.
    """
    with listening() as request:
        try:
            return command(request)
        except TskdError as error:
            return _fail(str(error))
        except Interrupted as stop:
            print(f"tskd-jax: {stop.name}: stopped {stop}; {GO_ON}", file=sys.stderr)
            if job := _job():
                job.leave()
            return stop.status
        except KeyboardInterrupt:
            return _fail(f"interrupted; {GO_ON}", 130)
        except OSError as error:
            # The machine's fault and not the program's: a full disk, a folder that went away.
            place = error.filename2 or error.filename
            told = f"{place}: {error.strerror}" if place else error.strerror or error
            return _fail(f"{told}; mend that, and the same command goes on")
        except Exception as error:
            if is_exhausted(error):
                told = str(error).partition("\n")[0]
                remedy = "close other programs, or choose a smaller scale"
                return _fail(f"out of memory{told and ': '}{told}; {remedy}; {GO_ON}")
            if job := _job():
                job.explain(error)
            raise


def _fail(problem: str, status: int = 2) -> int:
    print(f"tskd-jax: {' '.join(problem.split())}", file=sys.stderr)
    if job := _job():
        job.abandon(problem, status)
    return status


def _job():
    """`tskd_jax.hosts`, which imports JAX; until somebody has imported it, there is no job."""
    return sys.modules.get("tskd_jax.machine.hosts")


def _main(argv: list[str], request: Request) -> int:
    from ml_collections import config_flags

    from tskd_jax import config as config_module
    from tskd_jax.machine import hosts
    from tskd_jax.methods.method import STAGES

    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "A file of configs/, as FILE.py[:SCALE,LEVEL].",
        flag_values=values,
        sys_argv=argv,
    )
    flags.DEFINE_string(
        "workdir", None, "Everything the run makes, and nothing outside it.", flag_values=values
    )
    flags.DEFINE_enum(
        "stop_after", None, STAGES, "Stop when this stage is done.", flag_values=values
    )
    flags.DEFINE_string(
        "replay", None, "A summary.json: repeat its run and compare.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values, short_name="h")

    if any(arg in ("--help", "-h", "-help") for arg in argv[1:]):
        print(__doc__, values.get_help(), sep="\n")
        print("Fields of a config: python -m tskd_jax.config")
        return 0
    for arg in argv[1:]:
        if arg.startswith(("--config.", "-config.")):
            name = arg.lstrip("-").partition("=")[0].removeprefix("config.")
            config_module.check_name(name)
    try:
        rest = values(argv)
        chosen = values["config"].value
        # A file that fails to load answers with its error when it is first looked at.
        given = chosen and chosen.to_dict() and chosen
    except TskdError:
        raise
    except Exception as error:
        raise ConfigError(_one_line(error)) from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is not understood; see --help")
    if values["replay"].value:
        if chosen or values["stop_after"].value:
            raise ConfigError("--replay=FILE repeats a whole run, with the config of that file")
        return _replay(Path(values["replay"].value), values["workdir"].value, request)
    if given is None:
        raise ConfigError("--config=FILE is needed, such as --config=configs/hopper.py")
    config = config_module.finalize(given)
    hosts.join(config.distributed)
    workdir = values["workdir"].value or Path("runs") / config.label
    summary = _run(config, Path(workdir), values["stop_after"].value, request)
    status = 0 if summary is None else _show(config, summary, Path(workdir))
    hosts.leave()
    return status


def _one_line(error: Exception) -> str:
    """The cause of a failed parse: the innermost error, which is the user's."""
    while isinstance(error.__cause__, Exception):
        if isinstance(error.__cause__, TskdError):
            return str(error.__cause__)
        error = error.__cause__
    return " ".join(str(error).split())


def _run(config, workdir: Path, stop_after: str | None, request: Request) -> dict | None:
    """The summary of the whole run, in its first process; None where --stop_after ended it."""
    from tskd_jax.machine import hosts
    from tskd_jax.methods.method import tskd
    from tskd_jax.report import report
    from tskd_jax.run.run import Run, Stopped

    run = Run(workdir, config, stop_after, request=request)
    try:
        outcome, summary = tskd(config, run), {}
        hosts.from_first(lambda: summary.update(report.write(config, outcome, run)))
        return summary or None
    except Stopped as stopped:
        run.say(f"stopped after {stopped}; the same command without --stop_after goes on")
        return None
    finally:
        run.close()


def _show(config, summary: dict, workdir: Path) -> int:
    from tskd_jax.report import report

    print(report.table(config, summary))
    print(f"\nresults: {workdir}")
    return 0


def _replay(path: Path, workdir: str | None, request: Request) -> int:
    from tskd_jax.methods import replay

    before, config = replay.read(path)
    # The label is somebody else's text: its last part, so that it leads nowhere else.
    place = Path(workdir or Path("runs") / f"{Path(config.label).name}-replay")
    after = _run(config, place, None, request)
    assert after is not None  # no --stop_after was given
    _show(config, after, place)
    problems = replay.differences(before, after)
    print(f"\n{path}: " + ("; ".join(problems) if problems else replay.MATCHES))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
