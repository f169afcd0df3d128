"""Compares runs, from their folders alone: each method's scores on each dataset.

Scores of different datasets are mixed only on request. A dataset is identified by its hash, or by
its name if a run has no hash. Statistics over several datasets cover only methods that were run on
all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.envs.entries import get_task
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.report import summary as summaries
from tskd_jax.run import files
from tskd_jax.run.folder import FORMAT


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
      folder: the run's folder.
      label: its label in a comparison.
      summary: its `summary.json`.
      scores: method -> (seeds, episodes).
      judged: the same in the learned world, if `scores` are the simulator's; else empty.
      students: method -> checksum of its students, as far as the run's manifest has it.
    """

    folder: Path
    label: str
    summary: dict[str, Any]
    scores: dict[str, np.ndarray]
    judged: dict[str, np.ndarray]
    students: dict[str, str]

    @property
    def dataset(self) -> str:
        """Its dataset's name."""
        return Path(self.summary["dataset"]["name"]).stem

    @property
    def unit(self) -> str:
        """The unit of its scores."""
        return summaries.unit(self.summary)

    @property
    def measured(self) -> str:
        """How its scores were measured, in words; runs that differ in it cannot be compared."""
        task = self.summary["task"]
        where = f" in {task['gymnasium_id']}" if task["gymnasium_id"] else ""
        limit = task.get("episode_limit")
        return f"{self.unit}{where}" + (f", episodes of up to {limit} steps" if limit else "")


@dataclass(frozen=True)
class Entry:
    """A method of a run.

    Attributes:
      key: the method's name, or METHOD@LABEL if several runs on one dataset have it.
      title: the method's title.
      name: the title, followed by the label if the key has one.
      method: the method's name in the run.
      run: the run.
    """

    key: str
    title: str
    name: str
    method: str
    run: Run

    @property
    def scores(self) -> np.ndarray:
        """(seeds, episodes)."""
        return self.run.scores[self.method]

    def has_the_students_of(self, other: "Entry") -> bool:
        """Whether both have the same students, bit for bit; False if that is not known."""
        own = self.run.students.get(self.method)
        return own is not None and own == other.run.students.get(other.method)


@dataclass(frozen=True)
class Comparison:
    """The methods of several runs, by dataset.

    Attributes:
      subject: key of the method that the others are compared with.
      entries: label of a dataset -> key -> entry.
    """

    subject: str
    entries: Mapping[str, Mapping[str, Entry]]

    @property
    def common(self) -> list[str]:
        """Keys of the methods that were run on all datasets, including the subject, in order."""
        first, *others = self.entries.values()
        return [key for key in first if all(key in other for other in others)]

    @property
    def normalised(self) -> bool:
        """Whether all scores are normalised as in D4RL, and can be averaged over datasets."""
        return all(
            entry.run.summary["task"]["random_return"] is not None
            for dataset in self.entries.values()
            for entry in dataset.values()
        )

    def unit(self, dataset: str) -> str:
        """The unit of the scores on a dataset."""
        return next(iter(self.entries[dataset].values())).run.unit


def read(folder: Path, label: str = "") -> Run:
    """Read a finished run.

    Args:
      folder: the run's folder.
      label: its label in a comparison; by default the folder's name.

    Raises:
      WorkdirError: the folder is not a run, or the run is not finished, damaged, or of another
        version.
    """
    if not folder.is_dir():
        raise WorkdirError(f"{folder}: no folder; give the --workdir of a run")
    manifest, _ = files.read_sealed(folder / "manifest.json")
    if manifest is not None and manifest.get("format") != FORMAT:
        raise WorkdirError(f"{folder}: a run of another version of tskd-jax; run it again")
    found = summaries.read(folder)
    try:
        environment = found["config"]["environment"]["name"]  # for runs older than `task`
        found["task"] = found.get("task") or summaries.task_facts(get_task(environment))
        scores, judged = summaries.read_scores(folder, found["task"])
        known = {name: one["per_seed"] for name, one in found["scores"].items()}
        titles = {name: found["methods"][name]["title"] for name in known}
        facts = found["dataset"]["name"], found["config"]["seeds"], found["results"]
        whole = bool(titles) and bool(facts) and found["subject"] in known
        whole &= all(_has_means(scores.get(name), one) for name, one in known.items())
        stages = (manifest or {}).get("stages", {})
        keys = {name: found["methods"][name].get("student") for name in known}
        students = {name: stages[key]["content"] for name, key in keys.items() if key in stages}
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise WorkdirError(
            f"{folder}/summary.json: of another version of tskd-jax ({error}); run it again"
        ) from error
    if not whole or not all(map(_is_per_episode, judged.values())):
        in_simulator = summaries.simulated(found) and not whole
        file = summaries.RETURNS if in_simulator else summaries.JUDGED
        raise WorkdirError(
            f"{folder}: {file} has not the scores of summary.json; run the same command again"
        )
    scores = {name: scores[name] for name in known}
    return Run(folder, label or folder.resolve().name, found, scores, judged, students)


def _is_per_episode(scores: np.ndarray) -> bool:
    """Whether these are numbers, (seeds, episodes), at least one."""
    return scores.ndim == 2 and scores.size > 0 and scores.dtype.kind in "fiu"


def _has_means(scores: np.ndarray | None, per_seed: Any) -> bool:
    """Whether scores are (seeds, episodes) with these means; TypeError if those are no numbers."""
    if scores is None or not _is_per_episode(scores) or np.shape(per_seed) != scores.shape[:1]:
        return False
    return bool(np.allclose(scores.mean(1), per_seed))


def compare(
    folders: Sequence[Path],
    labels: Sequence[str] = (),
    subject: str | None = None,
    across_datasets: bool = False,
) -> Comparison:
    """Combine runs into one comparison.

    Args:
      folders: the runs' folders.
      labels: the runs' labels; by default their folders' names.
      subject: key of the method that the others are compared with; None: the last run's.
      across_datasets: whether the runs may have several datasets.

    Raises:
      WorkdirError: as for `read`, or a run is given twice.
      ConfigError: the runs cannot be compared.
    """
    if labels and len(labels) != len(folders):
        raise ConfigError(f"--labels: {len(labels)} for {len(folders)} runs")
    runs = [read(folder, label) for folder, label in _labelled(folders, labels)]
    _check_that_each_is_there_once(runs)
    datasets = _by_dataset(runs)
    if len(datasets) > 1 and not across_datasets:
        found = ", ".join(f"{name} ({own[0].folder})" for name, own in datasets.items())
        raise ConfigError(f"runs of different datasets: {found}; --across_datasets compares them")
    several = {
        name
        for own in datasets.values()
        for run in own
        for name in run.scores
        if sum(name in other.scores for other in own) > 1
    }
    entries = {dataset: _entries(own, several) for dataset, own in datasets.items()}
    chosen = subject or _key(runs[-1].summary["subject"], runs[-1], several)
    found = Comparison(chosen, entries)
    _check_the_subject(found)
    return found


def _labelled(folders: Sequence[Path], labels: Sequence[str]) -> list[tuple[Path, str]]:
    """(folder, label) of each run; default labels are the shortest distinct ends of the paths."""
    if labels:
        return list(zip(folders, labels, strict=True))
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({part[-depth:] for part in parts}) < len(set(parts)):
        depth += 1
    return [(folder, "/".join(part[-depth:])) for folder, part in zip(folders, parts, strict=True)]


def _check_that_each_is_there_once(runs: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in runs:
        key = files.json_digest([run.summary["config"], run.summary["results"]])
        if key in seen:
            same = run.folder.resolve() == seen[key].folder.resolve()
            what = "given twice" if same else f"the same run as {seen[key].folder}"
            raise WorkdirError(f"{run.folder}: {what}")
        seen[key] = run


def _by_dataset(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Group runs by dataset: label -> runs.

    Raises:
      ConfigError: runs on one dataset measured scores in different units or environments, or in
        episodes of different limits.
    """
    groups: list[list[Run]] = []
    for run in runs:
        same = next((group for group in groups if _same_dataset(group[0], run)), None)
        if same is None:
            groups.append([run])
            continue
        if same[0].measured != run.measured:
            kinds = (f"{one.folder} ({one.measured})" for one in (same[0], run))
            raise ConfigError(f"scores that cannot be compared: {', '.join(kinds)}")
        same.append(run)
    names = [group[0].dataset for group in groups]
    return {
        name if names.count(name) == 1 else f"{name} ({_hash(group[0])[:8] or place})": group
        for place, (name, group) in enumerate(zip(names, groups, strict=True), 1)
    }


def _hash(run: Run) -> str:
    return str(run.summary["dataset"].get("sha256") or "")


def _same_dataset(one: Run, other: Run) -> bool:
    if _hash(one) and _hash(other):
        return _hash(one) == _hash(other)
    return one.summary["dataset"]["name"] == other.summary["dataset"]["name"]


def _entries(runs: Sequence[Run], several: set[str]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for run in runs:
        for name in run.scores:
            key = _key(name, run, several)
            title = run.summary["methods"][name]["title"]
            if key in found:
                raise ConfigError(f"{run.folder}: {key} is there twice; give other --labels")
            shown = f"{title} · {run.label}" if key != name else title
            found[key] = Entry(key, title, shown, name, run)
    return found


def _key(name: str, run: Run, several: set[str]) -> str:
    return f"{name}@{run.label}" if name in several else name


def _check_the_subject(found: Comparison) -> None:
    if not found.common:
        raise ConfigError(
            f"no method is on all of {', '.join(found.entries)}; where runs of one dataset have "
            "the same methods, --labels=LABEL,LABEL,… says which runs belong together"
        )
    if found.subject not in found.common:
        raise ConfigError(
            f"{found.subject} is not on every dataset; --subject takes one of "
            f"{', '.join(found.common)}"
        )
