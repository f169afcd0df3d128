"""tskd-jax run --config=NAME[:PRESET,LEVEL] [--config.SECTION.FIELD=VALUE …]

Trains on a dataset and distils a policy. A preset is quick (a laptop), small or paper; a level is
one of the environment's datasets. If the run is interrupted or killed, the same command resumes it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tskd_jax.cli.flags import needed, parse, workdir
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request

# Values of --stop_after; the name of a part (`parts_of_stage`) may follow after a dot.
STAGES = (
    *("dataset", "termination", "world", "best_share", "confirmed_share", "inverse_dynamics"),
    *("baseline", "trajectory_generator", "few_steps", "trial", "best_teacher"),
    *("imagination_world", "imagination", "dynamics", "accept", "reward_generator", "cvae", "wgan"),
    *("value", "stitching", "student", "choice", "aggregation", "evaluation", "referee"),
    *("value_guide", "fitted_q", "held_out", "within_data", "check_in_simulator"),
)
OF_TEACHERS = ("trajectory_generator", "few_steps", "trial", "imagination")
OF_METHODS = (
    *("value", "stitching", "student", "choice", "aggregation"),
    *("evaluation", "referee", "fitted_q", "held_out", "within_data"),
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
    _check_part(stop_after, config)
    track = tuple(values["track"].value or ())
    trackers.check(track)
    reuse = [_reusable(name) for name in values["reuse"].value or ()]
    hosts.join(options.distributed)
    devices.check()
    folder = workdir(values["workdir"].value, Path("runs") / options.label)
    summary = run(config, folder, request, stop_after, options.checkpoint_seconds, reuse, track)
    if summary is not None:
        show(summary, folder)
    hosts.leave()
    return 0


def _check_part(stop_after: str | None, config: Any) -> None:
    """Refuse a value of --stop_after whose stage has no such part in a run of this config."""
    stage, dot, part = (stop_after or "").partition(".")
    if not dot:
        return
    known = parts_of_stage(stage, config)
    if not known:
        raise ConfigError(f"--stop_after={stop_after}: {stage} has no parts; stop after {stage}")
    if part.partition(".")[0] not in known and part not in known:
        raise ConfigError(
            f"--stop_after={stop_after}: no such part of {stage} in this run; there are "
            f"{', '.join(known)}"
        )


def parts_of_stage(stage: str, config: Any) -> list[str]:
    """The names that may follow a stage's, after a dot, in a run of this config."""
    from tskd_jax.cli.comparison import comparisons

    trained, others = (
        [str(number) for number in range(2, count + 1)]
        for count in (config.teachers.count, config.teachers.kept)
    )
    if stage in OF_TEACHERS:
        return others if stage == "imagination" else trained
    if stage not in OF_METHODS:
        return []
    known = [name for name, *_ in comparisons(config)]
    if stage == "student" and config.selection.by != "none":
        known += [f"share_{share:g}" for share in config.selection.shares]
    if stage == "evaluation" and config.evaluation.teacher_episodes:
        known += ["teacher", *(f"teacher_{number}" for number in others)]
    return known


def _reusable(name: str) -> Path:
    """The folder that a part of --reuse names.

    Raises:
      ConfigError: it holds no run whose results could be taken.
    """
    from tskd_jax.run import files
    from tskd_jax.run.folder import read_manifest

    path = Path(os.path.expanduser(name))
    if read_manifest(path):
        return path
    manifest, problem = files.read_sealed(path / "manifest.json")
    if manifest is not None:
        raise ConfigError(f"--reuse={path}: a run of another version of tskd-jax; leave it out")
    if problem:
        raise ConfigError(f"--reuse={path}: manifest.json and its copy are damaged; leave it out")
    raise ConfigError(f"--reuse={path}: holds no run (no manifest.json)")


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
        summary = compare(config, run)
        if stop_after:
            names = (stage["name"] for stage in run.manifest["stages"].values())
            run.report(
                f"warning: --stop_after={stop_after}: this run has no such stage and is whole; it "
                f"has dataset, {', '.join(dict.fromkeys(names))}"
            )
        return summary
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
