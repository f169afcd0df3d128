"""The runs behind a table or a figure: made where they are missing, gone on with, or read."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.paper.datasets import Dataset
from tskd_jax.cli.run import run
from tskd_jax.cli.sweep import changed, parse_values
from tskd_jax.config import Config, UserConfig, default_config, finalize, make_config, to_plain
from tskd_jax.data import load
from tskd_jax.errors import ConfigError, DatasetError, TskdError, WorkdirError
from tskd_jax.evaluation.scores import mean_interval
from tskd_jax.machine.signals import Interrupted, Request
from tskd_jax.presets import PRESETS
from tskd_jax.report import summary as summaries
from tskd_jax.report.published import table1 as published

SCALE = flags.DEFINE_enum("scale", "quick", list(PRESETS), "Preset of every run.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Of every method.")
SEED_AXIS = flags.DEFINE_enum(
    "seed_axis", "student", ["student", "pipeline"], "What the errors are over (docs/scaling.md)."
)
SET = flags.DEFINE_multi_string("set", [], "SECTION.FIELD=VALUE, of every run.")
WORKDIR = flags.DEFINE_string("workdir", "runs/paper", "The runs, in WORKDIR/SCALE/DATASET/NAME.")
REUSE = flags.DEFINE_list("reuse", [], "Earlier WORKDIRs, from which finished stages are taken.")


@dataclass(frozen=True)
class Wanted:
    """One method on a dataset.

    Attributes:
      method: of METHODS.
      changes: of the preset, field "section.field" -> value.
      name: of the run's folder; by default the method's.
      seeds: how many of --seeds; None: all.
    """

    method: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    seeds: int | None = None


def scores(
    pairs: Iterable[tuple[Dataset, Wanted]],
    request: Request,
    known: Mapping[tuple[str, str], dict[str, Any]] | None = None,
    after_each: Callable[[list[dict[str, Any]]], None] = lambda _rows: None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of methods on datasets; a run that fails leaves its row out, and the rest goes on.

    Args:
      pairs: in the order of the rows.
      request: ends a run where it can go on.
      known: (dataset's label, name) -> a row that is taken as it is, and not run, if it is of the
        same data.
      after_each: called after each run with all rows that there are, those of `known` that are
        still to come included.

    Returns:
      (rows of `score`; a line for each run that failed).

    Raises:
      ConfigError: a flag or field is not valid, or a known row is of other data; then nothing has
        run.
    """
    pairs, known = list(pairs), known or {}
    for dataset, wanted in pairs:
        final, _ = finalize(config_of(dataset, wanted))
        row = known.get((dataset.label, wanted.name or wanted.method))
        if row and (
            row["environment"] != dataset.environment or _changed(final, str(row["sha256"]))
        ):
            raise ConfigError(
                f"{dataset.label}, {row['name']}: the known row is of another {row['environment']} "
                "dataset of this name; leave that table out, or restore the file"
            )
    found: dict[tuple[str, str], dict[str, Any]] = {}
    failures = []
    for dataset, wanted in pairs:
        name = wanted.name or wanted.method
        try:
            found[dataset.label, name] = known.get((dataset.label, name)) or score(
                dataset, wanted, request
            )
        except Interrupted:
            raise
        except Exception as error:
            kind = "" if isinstance(error, TskdError) else f"{type(error).__name__}: "
            lines = str(error).splitlines() or [""]
            failures.append(f"{dataset.label}, {name}: {kind}{lines[0]}")
            print(failures[-1], file=sys.stderr, flush=True)
            continue
        keys = [(each.label, one.name or one.method) for each, one in pairs]
        after_each([row for key in keys if (row := found.get(key) or known.get(key))])
    return list(found.values()), failures


def report_failures(failures: Sequence[str]) -> int:
    """Print all runs that failed once more; returns the exit status."""
    if not failures:
        return 0
    print(f"{len(failures)} of the runs failed; the same command tries them again:", *failures)
    return 2


def score(dataset: Dataset, wanted: Wanted, request: Request) -> dict[str, Any]:
    """The row of one method on one dataset, from its run's folder.

    Returns:
      dataset, environment, sha256 (of the data), name, title; seeds; mean, stderr, and low and
      high, Student's 95% interval over the seeds ("" for one seed); refused: the share of the
      pipelines whose referee refused all that was imagined and stitched, so that their students are
      the filter's ("" where there was nothing to choose); paper: its own score, "" but for D4RL's
      data; parameters, seconds; scale, seed_axis and set, the flags.

    Raises:
      ConfigError: a flag or field is not valid, or the folder has a run with others.
    """
    made = summary(dataset, wanted, request)
    found = made["scores"][wanted.method]
    low, high = mean_interval(np.array(found["per_seed"])) or ("", "")
    data = made["config"]["dataset"]
    theirs = None if data["path"] else published(data["name"], wanted.method)
    return {
        "dataset": dataset.label,
        "environment": dataset.environment,
        "sha256": made["dataset"]["sha256"],
        "name": wanted.name or wanted.method,
        "title": made["methods"][wanted.method]["title"],
        "seeds": len(found["per_seed"]),
        "mean": found["mean"],
        "stderr": found["stderr"],
        "low": low,
        "high": high,
        "refused": _refused(made, wanted.method),
        "paper": theirs.mean if theirs and not wanted.changes else "",
        "parameters": made["methods"][wanted.method]["parameters"],
        "seconds": sum(made["seconds"].values()),
        **flags_of_row(),
    }


def flags_of_row() -> dict[str, str]:
    """The flags that rows of one table must have in common."""
    return {"scale": SCALE.value, "seed_axis": SEED_AXIS.value, "set": " ".join(SET.value)}


def _refused(made: Mapping[str, Any], method: str) -> float | str:
    """The share of pipeline seeds whose referee keeps to the filter's students."""
    found = made["stages"].get(f"choice.{method}", {})
    chosen = [one.get("chosen") for one in found.get("of_seed", {"": found}).values()]
    return "" if None in chosen else chosen.count(0) / len(chosen)


def summary(dataset: Dataset, wanted: Wanted, request: Request) -> dict[str, Any]:
    """The summary of the run of one method on one dataset, which is made where it is missing.

    Raises:
      ConfigError: a flag or field is not valid, or the folder has a run with others, or of data
        that have changed since.
    """
    inside = Path(SCALE.value) / dataset.label
    place = Path(WORKDIR.value) / inside / (wanted.name or wanted.method)
    final, options = finalize(config_of(dataset, wanted))
    try:
        found = summaries.read(place)
    except WorkdirError:
        found = None
    if found is not None:
        if others := differing(found["config"], to_plain(final)):
            raise ConfigError(
                f"{place}: a run with other {', '.join(others)}; choose another --workdir, and "
                f"--reuse={WORKDIR.value} for what they have in common"
            )
        if _changed(final, found["dataset"]["sha256"]):
            raise ConfigError(
                f"{place}: {final.dataset.path or final.dataset.name} has changed since; restore "
                "it, or choose another --workdir"
            )
        return found
    print(f"\n{place}", flush=True)
    others = [
        path.parent
        for workdir in (WORKDIR.value, *REUSE.value)
        for path in sorted((Path(workdir) / inside).glob("*/manifest.json"))
    ]
    reuse = [other for other in others if other != place]
    made = run(final, place, request, None, options.checkpoint_seconds, reuse)
    assert made is not None  # nothing stops it before its end
    return made


def content_of(config: Config) -> str:
    """The SHA-256 of a config's dataset; "" if it is not on this machine."""
    try:
        return load.content_hash(load.resolve(config.dataset.path or config.dataset.name))
    except DatasetError:
        return ""


def _changed(config: Config, sha256: str) -> bool:
    """Whether a config's dataset is on this machine and is not the one of that SHA-256."""
    return content_of(config) not in ("", sha256)


def differing(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Sections in which two configs differ; what an older run does not know had its default."""
    defaults = to_plain(finalize(default_config())[0])
    wanted, defaults = (json.loads(json.dumps(part)) for part in (wanted, defaults))

    def complete(name: str) -> Any:
        default, part = defaults.get(name), found.get(name, defaults.get(name))
        return default | part if isinstance(default, dict) and isinstance(part, dict) else part

    names = dict.fromkeys((*found, *wanted))
    return [name for name in names if complete(name) != wanted.get(name)]


def config_of(dataset: Dataset, wanted: Wanted) -> UserConfig:
    """The config of the run of one method on one dataset."""
    config = make_config(dataset.environment, ",".join(filter(None, (SCALE.value, dataset.level))))
    if dataset.source:
        is_file = Path(dataset.source).exists()
        config.dataset["path" if is_file else "name"] = dataset.source
    config.methods, config.ablations = wanted.method, False
    config.seed_axis = SEED_AXIS.value
    if not all(seed.isdecimal() for seed in SEEDS.value):
        raise ConfigError(f"--seeds={','.join(SEEDS.value)}: whole numbers are meant")
    config.seeds = tuple(map(int, SEEDS.value))[: wanted.seeds]
    for change in SET.value:
        name, values = parse_values(config, change)
        value, *others = values.values()
        if isinstance(value, str):
            value = change.partition("=")[2]  # with its commas
        elif others:
            raise ConfigError(f"--set={change}: one value is meant")
        config = changed(config, {name: value})
    return changed(config, wanted.changes)
