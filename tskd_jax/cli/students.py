"""Writes the students of a run as files, each with its contract."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.envs.dimensions import dimensions
from tskd_jax.envs.simulator import control_hz
from tskd_jax.errors import PolicyError, TskdError
from tskd_jax.methods import Experiment
from tskd_jax.policy import Policy, save_policy
from tskd_jax.run.folder import this_machine
from tskd_jax.run.run import Run


def write_student(name: str, policy: Policy, contract: Contract, run: Run) -> None:
    """Write a student; if its contract cannot be written, write the student without it."""
    with run.replacing(name) as path:
        try:
            save_policy(path, policy, contract)
        except PolicyError as error:  # e.g. extremely long names: no reason to lose a result
            run.report(f"warning: {name} has no contract: {error}")
            save_policy(path, policy)


def contracts(
    exp: Experiment,
    run: Run,
    students: Sequence[Policy],
    seeds: Sequence[int],
    returns: np.ndarray | None,
    judged: np.ndarray | None,
) -> list[Contract]:
    """Make the contract of each student.

    Args:
      exp: the experiment of the method that trained the students.
      run: the run, whose manifest describes the dataset.
      students: one per seed.
      seeds: the students' seeds.
      returns: (seeds, episodes) in the simulator; None without one.
      judged: (seeds, episodes) in the learned world, used only without a simulator.
    """
    task, recorded = exp.task, exp.recorded
    if not students:
        return []
    notes = run.manifest["notes"]
    made_with = run.manifest.get("machines", [this_machine()])[-1]["versions"]
    known = dimensions(task, notes.get("names", {}))
    dataset = notes["dataset"]
    measured = "simulator" if returns is not None else "learned world"
    scores = returns if returns is not None else judged
    scores = None if scores is None else np.asarray(task.normalized_score(scores))
    shared = {
        "observation_size": task.state_size,
        "action_size": task.action_size,
        **vars(known),
        "observation_low": tuple(recorded.observations.min(0).astype(float).tolist()),
        "observation_high": tuple(recorded.observations.max(0).astype(float).tolist()),
        "control_hz": exp.config.environment.control_hz or _control_hz(task.gymnasium_id),
        "environment": task.gymnasium_id,
        "dataset": without_folder(str(dataset["name"])),
        "dataset_sha256": dataset.get("sha256", ""),
        "method": exp.name,
        "versions": {name: made_with[name] for name in ("tskd_jax", "jax", "numpy")},
    }
    if scores is not None:
        unit = "return" if task.random_return is None else "normalised score"
        shared |= {"score_unit": unit, "score_measured_in": measured}
    made = []
    for place, (policy, seed) in enumerate(zip(students, seeds, strict=False)):
        own = {} if scores is None else _score(scores[place])
        bounds = {"action_low": policy.bounds.low, "action_high": policy.bounds.high}
        made.append(Contract(**shared, **bounds, **own, seed=int(seed)))
    return made


def without_folder(source: str) -> str:
    """A dataset's name; of a path only that of the file or folder: where it lies is private."""
    path = Path(os.path.expanduser(source))
    return path.name if path.is_absolute() or path.exists() else source


def _score(scores: np.ndarray) -> dict[str, float | int | None]:
    """The contract's fields for (episodes,) scores; one episode has no standard error."""
    count = len(scores)
    error = float(scores.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return {"score": float(scores.mean()), "score_error": error, "score_episodes": count}


def _control_hz(gymnasium_id: str) -> float | None:
    try:
        return control_hz(gymnasium_id) if gymnasium_id else None
    except TskdError:  # the evaluation is done, so a failing simulator does not matter here
        return None
