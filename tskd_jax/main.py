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
    config_flag = config_flags.DEFINE_config_file(
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
    except TskdError:
        raise
    except (
        flags.Error,
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ImportError,
        SyntaxError,
    ) as error:
        raise ConfigError(str(error).replace("\n", " ")) from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is not understood; see --help")
    if values["config"].value is None:
        raise ConfigError("--config=FILE is needed, such as --config=configs/hopper.py")
    config = config_module.finalize(values["config"].value)
    workdir = values["workdir"].value or default_workdir(
        config_flags.get_config_filename(values["config"]), values["config"]
    )
    del config_flag
    return _run(config, Path(workdir), values["stop_after"].value)


def default_workdir(filename: str, flag) -> str:
    """runs/<config>-<level>-<scale>, e.g. runs/hopper-embedded-quick."""
    from tskd_jax.config import SCALES

    argument = flag.config_string.partition(":")[2] if hasattr(flag, "config_string") else ""
    words = [word for word in argument.split(",") if word]
    scale = next((word for word in words if word in SCALES), "quick")
    level = next((word for word in words if word not in SCALES), None)
    name = Path(filename.partition(":")[0]).stem
    parts = [name, level, scale] if level else [name, scale]
    return str(Path("runs") / "-".join(parts))


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
