"""Reads the dataset of a config, checks it against the environment, and derives the task."""

from dataclasses import dataclass, replace
from typing import Any

from tskd_jax.cli.fetch import get
from tskd_jax.config import Config
from tskd_jax.data import load
from tskd_jax.data.arrays import from_arrays
from tskd_jax.data.checks import DatasetChecks, dataset_warnings
from tskd_jax.data.d4rl_files import FILES
from tskd_jax.data.splits import hold_out
from tskd_jax.data.trajectories import Trajectories, describe
from tskd_jax.envs import own
from tskd_jax.envs.recorded_check import check_dynamics, check_rule
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import DatasetError
from tskd_jax.methods import METHODS
from tskd_jax.models import termination
from tskd_jax.report import summary
from tskd_jax.run.run import Run


@dataclass(frozen=True)
class Recorded:
    """A dataset, facts about it, and its task.

    Attributes:
      trajectories: the dataset.
      task: the task of its environment.
      facts: for the manifest: statistics, the file's hash, `warnings`.
      names: "observations" and "actions" -> names of their dimensions, if the file has any.
    """

    trajectories: Trajectories
    task: Task
    facts: dict[str, Any]
    names: dict[str, tuple[str, ...]]


def read_recorded(config: Config) -> Recorded:
    """Read the dataset that a config names, with everything known about it before training.

    Raises:
      DatasetError: the dataset cannot be used, or is from another environment.
    """
    source = config.dataset.source
    if config.dataset.download and source in FILES:
        get(source)
    warnings: list[str] = []
    limit = own.known_limit(config.environment)
    checks = DatasetChecks(
        config.dataset.drop_invalid, limit, config.dataset.unordered, warnings.append
    )
    columns = load.read_columns(source, config.dataset.keys, warnings.append)
    facts: dict[str, Any] = {"name": source}
    where = source
    if not load.of_package(source):
        path = load.resolve(source)
        where, facts["sha256"] = str(path), load.content_hash(path)
    recorded = from_arrays(columns.arrays, where, checks)
    task = own.task_of(config.environment, recorded, source)
    warnings += [f"{source}: {line}" for line in dataset_warnings(recorded, task.bounds)]
    if _asks_for_too_much(config, recorded):
        warnings.append(
            f"{source}: no reward is above 0, but imagination is asked for "
            f"y={config.sampling.target_return:g} of the largest, which none reaches; set "
            "--config.sampling.target_quantile=0.95, or add a constant to the rewards"
        )
    check_rule(task, recorded, source, warnings.append)
    check_dynamics(task, recorded, source, config.evaluation.simulator_check, warnings.append)
    facts |= describe(recorded) | {"warnings": warnings}
    return Recorded(recorded, task, facts, dict(columns.names))


def load_recorded(config: Config, run: Run) -> tuple[Trajectories, Trajectories | None, Task]:
    """Load the training data, the held-out data (or None), and the task.

    The dataset must be the one that the run began with. If the task's termination rule is unknown,
    it is learned as the first stage of the run.

    Raises:
      DatasetError: the dataset cannot be used, is from another environment, or has changed.
    """
    found = read_recorded(config)
    facts = found.facts
    known = run.manifest.get("notes", {}).get("dataset")
    if known and any(known.get(key) != facts.get(key) for key in ("transitions", "sha256")):
        raise DatasetError(
            f"{facts['name']}: not the file that this run began with; restore it, or choose "
            "another --workdir"
        )
    if not known:
        for line in facts["warnings"]:
            run.report(f"warning: {line}")
        run.report(
            f"dataset: {facts['transitions']} transitions, {facts['episodes']} episodes, mean "
            f"return {facts['return_mean']:.4g}"
        )
    run.record("notes", "dataset", facts)
    run.record("notes", "names", found.names)
    run.record("notes", "task", summary.task_facts(found.task))
    run.stop_if_requested("dataset")
    share = config.evaluation.held_out
    kept, held_out = hold_out(found.trajectories, share)
    if held_out is not None:
        run.report(f"{len(held_out.lengths)} episodes are held out")
    elif share:
        run.report(f"warning: too few episodes to hold out {share:.0%} of them: none is")
    kept = run.freeze(kept)
    return kept, held_out, _ruled(config, found.task, kept, run)


def _ruled(config: Config, task: Task, recorded: Trajectories, run: Run) -> Task:
    """The task; if it has no termination rule, one is learned from recorded terminals, if any."""
    if task.rule_known or not config.termination.learned or not recorded.terminals.any():
        return task
    rule = run.stage("termination", termination.train, config.termination, recorded)
    return replace(task, alive=rule) if rule else task


def _asks_for_too_much(config: Config, recorded: Trajectories) -> bool:
    """Whether y is a share of the largest return-to-go although that is not above 0.

    If y is an advantage, it is a rank, whose largest value is reachable for any rewards.
    """
    if config.trajectory_generator.condition != "return":
        return False
    imagines = any(METHODS[name].imagines_from for name in config.methods)
    negative = recorded.rewards.max() <= 0 and recorded.rewards.min() < 0
    return imagines and not config.sampling.target_quantile and bool(negative)
