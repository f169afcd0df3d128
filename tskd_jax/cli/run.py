"""tskd-jax run --config=NAME[:PRESET,LEVEL] [--config.SECTION.FIELD=VALUE …]

Trains on a dataset and distils a policy. A preset is quick (a laptop), small or paper; a level is
one of the environment's datasets. If the run is interrupted or killed, the same command resumes it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tskd_jax.cli.flags import needed, parse, workdir
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request

# Values of --stop_after; a method's name may follow after a dot.
STAGES = (
    *("dataset", "termination", "world", "best_share", "confirmed_share", "inverse_dynamics"),
    *("baseline", "trajectory_generator", "few_steps", "imagination", "dynamics", "accept"),
    *("reward_generator", "cvae", "wgan"),
    *("value", "stitching", "student", "choice", "aggregation", "evaluation", "referee"),
    *("value_guide", "fitted_q", "held_out", "within_data", "check_in_simulator"),
)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "workdir", None, "Everything the run makes, and nothing outside it.", flag_values=values
    )
    flags.DEFINE_string(
        "stop_after",
        None,
        "Stop when this stage is done, as world or student.tskd; student: the first of them. "
        f"One of {', '.join(STAGES)}.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "reuse",
        [],
        "Workdirs of other runs: what they have made of the same inputs is not made again.",
        flag_values=values,
    )
    flags.DEFINE_list(
        "track",
        [],
        "wandb, mlflow: told of all metrics, too, which stand in metrics.csv and tensorboard/.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "replay", None, "A summary.json: repeat its run and compare.", flag_values=values
    )


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    values, given, shown = parse(argv, _define, __doc__ or "")
    if shown:
        return 0
    stop_after = values["stop_after"].value
    if values["replay"].value:
        from tskd_jax.cli import replay

        if given is not None or stop_after:
            raise ConfigError("--replay=FILE repeats a whole run, with the config of that file")
        return replay.repeat(Path(values["replay"].value), values["workdir"].value, request)
    from tskd_jax.config import finalize
    from tskd_jax.machine import devices, hosts
    from tskd_jax.run import trackers

    if stop_after and stop_after.partition(".")[0] not in STAGES:
        raise ConfigError(f"--stop_after={stop_after} is no stage; one of {', '.join(STAGES)}")
    config, options = finalize(needed(given))
    track = tuple(values["track"].value or ())
    trackers.check(track)
    reuse = [Path(name) for name in values["reuse"].value or ()]
    for other in reuse:
        if not (other / "manifest.json").exists():
            raise ConfigError(f"--reuse={other}: holds no run (no manifest.json)")
    hosts.join(options.distributed)
    devices.check()
    folder = workdir(values["workdir"].value, Path("runs") / options.label)
    summary = run(config, folder, request, stop_after, options.checkpoint_seconds, reuse, track)
    if summary is not None:
        show(summary, folder)
    hosts.leave()
    return 0


def run(
    config: Any,
    folder: Path,
    request: Request,
    stop_after: str | None = None,
    checkpoint_seconds: float = 120.0,
    reuse: Sequence[Path] = (),
    track: Sequence[str] = (),
    claims: Path | None = None,
) -> dict[str, Any] | None:
    """Execute a run in its folder; returns the summary in the first process, else None.

    A run that stops early, after `stop_after`, returns None, too.
    """
    from tskd_jax import config as configs
    from tskd_jax.cli.comparison import compare
    from tskd_jax.run.run import Run, Stopped

    run = Run(
        folder,
        configs.to_plain(config),
        stop_after=stop_after,
        request=request,
        checkpoint_seconds=checkpoint_seconds,
        reuse=reuse,
        track=track,
        claims=claims,
    )
    try:
        return compare(config, run)
    except Stopped as stopped:
        run.report(f"stopped after {stopped}; the same command without --stop_after goes on")
        return None
    finally:
        run.close()


def show(summary: dict[str, Any], folder: Path) -> None:
    """Print the table."""
    from tskd_jax.report.table import table

    print(table(summary))
    print(f"\nresults: {folder}")
