"""summary.json: all results of a run, collected from its folder."""

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.envs.entries import get_task
from tskd_jax.envs.tasks import Task, normalized_score
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.evaluation.scores import difference, rank_correlation, summarize
from tskd_jax.run import files
from tskd_jax.run.folder import this_machine

TEACHER = "teacher"
RETURNS, JUDGED = "returns.npz", "referee.npz"  # returns in the simulator and in the learned world
LEFT = "referee_left.npz"  # which of the latter episodes left the region that the world knows
FITTED_Q = "fitted_q.npz"  # discounted returns by fitted Q evaluation
ERRORS = "action_errors.npz"  # errors of actions in held-out episodes, by dimension
WITHIN = "within_data.npz"  # shares of visited states that lie within the data
FILES = (RETURNS, JUDGED, LEFT, FITTED_Q, ERRORS, WITHIN)

_EACH = "each entry"
_NUMBER = int | float
_ESTIMATE = {"mean": _NUMBER, "stderr": _NUMBER, "per_seed": list}
# The form of a summary: what every version writes, and what only later ones do.
_FORM = {
    "dataset": {
        "name": str,
        **dict.fromkeys(("transitions", "episodes", "terminal_episodes"), int),
        "return_mean": _NUMBER,
        "return_quantiles": {_EACH: _NUMBER},
    },
    "subject": str,
    "methods": {_EACH: {"title": str, "parameters": int, "seconds": _NUMBER}},
    "scores": {_EACH: _ESTIMATE | {"interquartile_mean": _NUMBER, "interval": list}},
    "gains": {_EACH: {"mean": _NUMBER, "interval": list | None}},
    "seconds": {_EACH: _NUMBER},
    "stages": {_EACH: dict},
    "results": {_EACH: str},
    "versions": {_EACH: str},
    "device": str,
    "config": {
        "seeds": list,
        "environment": {"name": str},
        "dataset": {"path": str},
        "evaluation": {"episodes": int},
    },
}
_LATER = {
    "task": {
        "gymnasium_id": str,
        **dict.fromkeys(("random_return", "expert_return"), _NUMBER | None),
    },
    "student": {"seed": int, "chosen": bool},
    "referee": {_EACH: _ESTIMATE | {"left": _NUMBER | None}},
    "fitted_q": {_EACH: _ESTIMATE},
    "action_errors": {_EACH: {"all": list, "better_half": list}},
    "within_data": {_EACH: _NUMBER},
    "agreement": {_EACH: _NUMBER | None},
}


def read(folder: Path) -> dict[str, Any]:
    """Read the summary of a finished run.

    Raises:
      WorkdirError: there is none, or it is damaged or of another version.
    """
    try:
        found = json.loads((folder / "summary.json").read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorkdirError(
            f"{folder}: holds no finished run (no summary.json); give the --workdir of one"
        ) from error
    except (ValueError, RecursionError) as error:
        raise WorkdirError(f"{folder}/summary.json: damaged; run the same command again") from error
    if problem := _misfit(found):
        raise WorkdirError(
            f"{folder}/summary.json: of another version of tskd-jax ({problem}); run it again"
        )
    return found


def _misfit(found: Any) -> str:
    """What a summary lacks, or has in another form; "" if nothing."""
    if problem := _first_misfit(found, _FORM):
        return problem
    later = {name: form for name, form in _LATER.items() if found.get(name) is not None}
    if problem := _first_misfit(found, later):
        return problem
    subject, scores = found["subject"], found["scores"]
    if subject not in scores:
        return f"no scores of its subject {subject!r}"
    without = [name for name in scores if name not in found["methods"]]
    without += [name for name in scores if name != subject and name not in found["gains"]]
    if without:
        return f"no method or gain {without[0]!r}"
    return (
        "" if simulated(found) else _first_misfit(found, {"config": {"referee": {"episodes": int}}})
    )


def _first_misfit(found: Any, form: Any, name: str = "") -> str:
    if not isinstance(form, dict):
        return "" if isinstance(found, form) else f"{name!r} is a {type(found).__name__}"
    if not isinstance(found, dict):
        return f"{name!r} is no object" if name else "it is no object"
    for key, inner in form.items():
        for own in found if key is _EACH else [key]:
            whole = f"{name}.{own}" if name else own
            if own not in found:
                return f"no {whole!r}"
            if problem := _first_misfit(found[own], inner, whole):
                return problem
    return ""


def make(folder: Path) -> dict[str, Any]:
    """Make the summary: dataset, scores, gains, seconds, versions, and metrics of each stage.

    With `results`, the checksum of each stage's result, it has all that a replay needs. For a
    pipeline with several seeds, numbers are means over them.

    Raises:
      WorkdirError: the folder's manifest or returns cannot be read.
    """
    manifest = manifest_of(folder)
    config = json.loads((folder / "config.json").read_text())
    task = task_of(folder)
    methods = manifest["methods"]
    scores, judged = read_scores(folder, task)
    left = {name: {"left": float(one.mean())} for name, one in arrays(folder / LEFT).items()}
    alone = {} if task["gymnasium_id"] else left  # then the scores are the learned world's
    fitted = arrays(folder / FITTED_Q)
    subject = config["methods"][-1]
    names = stage_names(manifest)
    machines = _machines(folder, manifest)
    return {
        "dataset": manifest["notes"]["dataset"],
        "task": task,
        "subject": subject,
        "methods": methods,
        # The seed of student.npz, and whether the learned world chose it; None: an older run.
        "student": manifest["notes"].get("student"),
        "scores": {name: summarize(one) | alone.get(name, {}) for name, one in scores.items()},
        "referee": {
            name: summarize(one) | left.get(name, {"left": None}) for name, one in judged.items()
        },
        # Discounted returns, raw units of reward.
        "fitted_q": {name: summarize(one) for name, one in fitted.items()},
        # Root mean squares by dimension, in standard deviations of the action, mean over students.
        "action_errors": {
            name: dict(zip(("all", "better_half"), errors.mean(0).tolist(), strict=True))
            for name, errors in arrays(folder / ERRORS).items()
        },
        "within_data": {
            name: float(shares.mean()) for name, shares in arrays(folder / WITHIN).items()
        },
        # Spearman's rank correlation, over students, of offline estimates with simulator scores.
        "agreement": {
            name: _agreement(methods, scores, verdicts)
            for name, verdicts in (("referee", judged), ("fitted_q", fitted))
            if verdicts and task["gymnasium_id"]
        },
        # Difference of the subject to each of the other methods.
        "gains": {
            name: difference(scores[subject], one)
            for name, one in scores.items()
            if name != subject
        },
        "seconds": {names[key]: stage["seconds"] for key, stage in manifest["stages"].items()},
        "stages": {names[key]: stage["metrics"] for key, stage in manifest["stages"].items()},
        "results": {names[key]: stage["content"] for key, stage in manifest["stages"].items()},
        # Of the machine that worked on the run last, and of all that did, in this order.
        **machines[-1],
        "machines": machines,
        "config": config,
    }


def _machines(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The machines that made a run. The manifest of an older run, only asked again, has none."""
    if "machines" in manifest:
        return manifest["machines"]
    try:
        known = read(folder)
    except WorkdirError:
        return [this_machine()]
    return [{name: known[name] for name in ("versions", "device")}]


def _agreement(
    methods: dict[str, Any], scores: dict[str, np.ndarray], verdicts: dict[str, np.ndarray]
) -> float | None:
    # Several methods may share the same students, which count once.
    names = {
        methods[name].get("student", name): name for name in verdicts if name in scores
    }.values()
    if not names:
        return None
    means = (np.concatenate([one[name].mean(1) for name in names]) for one in (scores, verdicts))
    return rank_correlation(*means)


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a run; the run need not be finished.

    Raises:
      WorkdirError: the folder holds no run, or its manifest is damaged.
    """
    manifest, problem = files.read_sealed(folder / "manifest.json")
    if manifest is None:
        raise WorkdirError(f"{folder}: {problem or 'holds no run'}")
    return manifest


def task_of(folder: Path) -> dict[str, Any]:
    """The `task_facts` of a run's task; the run need not be finished.

    Raises:
      WorkdirError: the folder's files cannot be read.
    """
    manifest = manifest_of(folder)
    if known := manifest.get("notes", {}).get("task"):
        return known
    try:
        return task_facts(
            get_task(json.loads((folder / "config.json").read_text())["environment"]["name"])
        )
    except (OSError, ValueError, KeyError, TypeError, ConfigError) as error:
        raise WorkdirError(f"{folder}: does not say of which environment it is") from error


def task_facts(task: Task) -> dict[str, Any]:
    """The properties of a task that a report needs."""
    names = ("name", "gymnasium_id", "random_return", "expert_return", "episode_limit")
    return {name: getattr(task, name) for name in names}


def simulated(summary: dict[str, Any]) -> bool:
    """Whether the scores were measured in the simulator, as in all summaries without a `task`."""
    return not summary.get("task") or bool(summary["task"]["gymnasium_id"])


def unit(summary: dict[str, Any]) -> str:
    """The unit of a summary's scores, in words."""
    normalised = not summary.get("task") or summary["task"]["random_return"] is not None
    found = "normalised score" if normalised else "return"
    return found if simulated(summary) else f"{found} in the learned world"


def read_scores(
    folder: Path, task: dict[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read the (seeds, episodes) scores of each method: (simulator's, learned world's).

    Without a simulator: (learned world's, {}).

    Args:
      folder: the run's folder.
      task: as from `task_facts`.

    Raises:
      WorkdirError: a file cannot be read.
    """
    ends = task["random_return"], task["expert_return"]
    scores, judged = (
        {name: normalized_score(*ends, returns) for name, returns in arrays(folder / file).items()}
        for file in (RETURNS, JUDGED)
    )
    return (scores, judged) if task["gymnasium_id"] else (judged, {})


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an npz file of a run, by name; empty if there is no such file.

    Raises:
      WorkdirError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        with np.load(path) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WorkdirError(f"{path}: damaged; run the same command again") from error


def stage_names(manifest: dict[str, Any]) -> dict[str, str]:
    """Key of a stage -> its name; if several share a name, later ones get their key appended."""
    names: dict[str, str] = {}
    for key, stage in manifest["stages"].items():
        name = stage["name"]
        names[key] = f"{name}-{key[:8]}" if name in names.values() else name
    return names
