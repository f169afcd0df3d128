"""tskd-jax evaluate STUDENT [STUDENT …] [--env=ID] [--episodes=100] [--seed=0] [--out=FILE]

Evaluates students in an environment: returns and, if its reference returns are known, D4RL's
normalised score. A STUDENT is a student.npz, the folder of a run (its student.npz) or of students
(all of them), or a pattern of these. Without --env, the environment is that of the student's run,
or the one in its contract.

All episodes of a student are played side by side, to their end, and all students play the same
episodes: with --seed=S, those in which a run evaluates the student of seed S. The number of worker
processes does not change the result. --out saves every return, as CSV or npz.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from tskd_jax.cli.flags import parse_words
from tskd_jax.cli.new_files import new_file
from tskd_jax.errors import ConfigError, PolicyError
from tskd_jax.machine.signals import Interrupted, Request

FEWEST = 10  # episodes per process, below which starting another one does not pay


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "env",
        None,
        "An environment of Gymnasium, as Hopper-v5 or MODULE:ID, or a name of ours, as hopper.",
        flag_values=values,
    )
    flags.DEFINE_integer("episodes", 100, "Of each student.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "Of the episodes.", lower_bound=0, flag_values=values)
    flags.DEFINE_string("out", None, "Every return, into FILE.csv or FILE.npz.", flag_values=values)
    flags.DEFINE_integer(
        "workers",
        0,
        "Processes; 0: one for each core, but at most one for ten episodes.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "max_steps",
        0,
        "Steps after which an episode is cut; 0: the environment's own.",
        lower_bound=0,
        flag_values=values,
    )


class Place(NamedTuple):
    """Where students are evaluated.

    Attributes:
      gymnasium_id: Gymnasium's id of the environment.
      limit: steps after which an episode is cut.
      ends: returns of the random policy and of the expert; None if they are not defined.
    """

    gymnasium_id: str
    limit: int
    ends: tuple[float | None, float | None]


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    values, words, shown = parse_words(argv, _define, __doc__ or "")
    if shown:
        return 0
    if not words:
        raise ConfigError("tskd-jax evaluate takes students: FILE.npz, or the folder of a run")
    from tskd_jax.cli import student_files
    from tskd_jax.envs.simulator import episode_seeds
    from tskd_jax.policy import load_policy
    from tskd_jax.report import episodes

    given = values["out"].value
    out = new_file(given, (".csv", ".npz"), f"--out={given}") if given else None
    paths = student_files.find(words)
    policies = [load_policy(path) for path in paths]
    place = _place(values["env"].value, values["max_steps"].value, paths, policies)
    for path, policy in zip(paths, policies, strict=True):
        _check_that_it_fits(path, policy, place)
    seeds = episode_seeds(values["seed"].value, values["episodes"].value)
    workers = values["workers"].value or min(_cores(), max(1, len(seeds) // FEWEST))
    played = episodes.Episodes(
        place.gymnasium_id,
        [str(path) for path in paths],
        seeds,
        *play_all(policies, place, seeds, workers, request),
        place.ends,
    )
    try:
        print(episodes.table(played), flush=True)
    finally:  # a full disk must not take the table away, and a closed pipe not the file
        if out:
            episodes.write(played, out)
    if out:
        print(f"\nreturns: {out}")
    return 0


def _cores() -> int:
    """The number of cores that this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def _place(
    env: str | None, max_steps: int, paths: Sequence[Path], policies: Sequence[Any]
) -> Place:
    """The environment that `env` names, or that of the students.

    Raises:
      ConfigError: `env` is missing, and a student does not name an environment or they name
        different ones; or episodes have no limit.
    """
    from tskd_jax.cli.student_files import task_of
    from tskd_jax.envs.entries import TASKS
    from tskd_jax.envs.own import facts
    from tskd_jax.report.summary import task_facts

    known = {task.gymnasium_id: task_facts(task) for task in TASKS.values()}
    if env:
        found: dict[str, Any] = {"gymnasium_id": TASKS[env].gymnasium_id if env in TASKS else env}
    else:
        tasks = list(map(task_of, paths, policies))
        names = sorted({task["gymnasium_id"] for task in tasks})
        if "" in names:
            path = next(p for p, t in zip(paths, tasks, strict=True) if not t["gymnasium_id"])
            raise ConfigError(f"{path}: says of no environment; name one, as --env=Hopper-v4")
        if len(names) > 1:
            raise ConfigError(f"students of {' and '.join(names)}; give one of them as --env")
        found = tasks[0]
    gymnasium_id = found["gymnasium_id"]
    _, _, own_limit = facts(gymnasium_id)
    limit = max_steps or found.get("episode_limit") or own_limit
    if not limit:
        raise ConfigError(
            f"{gymnasium_id}: its episodes have no limit; give one, as --max_steps=1000"
        )
    scored = known.get(gymnasium_id, found)
    return Place(
        gymnasium_id,
        min(limit, own_limit or limit),
        (scored.get("random_return"), scored.get("expert_return")),
    )


def _check_that_it_fits(path: Path, policy: Any, place: Place) -> None:
    from tskd_jax.envs.own import facts

    state_size, bounds, _ = facts(place.gymnasium_id)
    takes, gives = len(policy.weights[0]), policy.weights[-1].shape[1]
    if (takes, gives) != (state_size, len(bounds.low)):
        raise PolicyError(
            f"{path}: takes {takes} observations and gives {gives} actions, but "
            f"{place.gymnasium_id} has {state_size} and {len(bounds.low)}; give the --env that it "
            "was made for"
        )


def play_all(
    policies: Sequence[Any], place: Place, seeds: Sequence[int], workers: int, request: Request
) -> tuple[Any, Any]:
    """Play all episodes; returns (students, episodes) returns and (students, episodes) lengths.

    Raises:
      Interrupted: a signal requested the end.
    """
    import numpy as np

    from tskd_jax.envs.fleet import Fleet
    from tskd_jax.evaluation.rollout import play, started
    from tskd_jax.run.progress import Bar

    bar = Bar(sys.stderr, "episodes")
    total = len(policies) * place.limit
    played = []
    with Fleet(place.gymnasium_id, workers) as fleet:
        for policy in policies:
            begun = len(played) * place.limit

            def on_progress(time: int, _limit: int, begun: int = begun) -> None:
                bar.update(begun + time, total, {})
                if request.signum:
                    where = f"after {begun + time} of at most {total} steps"
                    raise Interrupted(request.signum, where, kept=False)

            played.append(play(started(policy), fleet, seeds, place.limit, on_progress))
    bar.update(total, total, {})
    returns, lengths = zip(*played, strict=True)
    return np.stack(returns), np.stack(lengths)
