"""The command: from a dataset to a distilled policy.

python -m tskd_jax.main --config=configs/hopper.py[:SCALE,LEVEL] [--config.FIELD=VALUE …]
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from tskd_jax.errors import ConfigError, TskdError

# What a dependency prints while it is imported is no business of the user's.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def console() -> None:
    """The `tskd-jax` command."""
    sys.exit(main(sys.argv))


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status: 0, 2 for an error of the input, 130."""
    try:
        return _main(list(argv))
    except TskdError as error:
        print(f"tskd-jax: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tskd-jax: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _main(argv: list[str]) -> int:
    from ml_collections import config_flags

    from tskd_jax import config as config_module
    from tskd_jax.method import STAGES

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
    if given is None:
        raise ConfigError("--config=FILE is needed, such as --config=configs/hopper.py")
    config = config_module.finalize(given)
    workdir = values["workdir"].value or Path("runs") / config.label
    return _run(config, Path(workdir), values["stop_after"].value)


def _one_line(error: Exception) -> str:
    """The cause of a failed parse: the innermost error, which is the user's."""
    while isinstance(error.__cause__, Exception):
        if isinstance(error.__cause__, TskdError):
            return str(error.__cause__)
        error = error.__cause__
    return " ".join(str(error).split())


def _run(config, workdir: Path, stop_after: str | None) -> int:
    from tskd_jax import report
    from tskd_jax.method import tskd
    from tskd_jax.run import Run, Stopped

    run = Run(workdir, config, stop_after)
    try:
        outcome = tskd(config, run)
        summary = report.write(config, outcome, run)
    except Stopped as stopped:
        run.say(f"stopped after {stopped}; the same command without --stop_after goes on")
        return 0
    finally:
        run.close()
    print(report.table(config, summary))
    print(f"\nresults: {workdir}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
