"""The runs behind a table or a figure: made where they are missing, gone on with, or read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from tskd_jax.cli.run import run
from tskd_jax.cli.sweep import changed, parse_values
from tskd_jax.config import UserConfig, default_config, finalize, make_config, to_plain
from tskd_jax.envs.entries import TASKS
from tskd_jax.errors import ConfigError, WorkdirError
from tskd_jax.evaluation.scores import mean_interval
from tskd_jax.machine.signals import Request
from tskd_jax.presets import PRESETS
from tskd_jax.report import summary as summaries
from tskd_jax.report.published import table1 as published

SCALE = flags.DEFINE_enum("scale", "quick", list(PRESETS), "Preset of every run.")
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2", "3", "4"], "Of every method.")
SET = flags.DEFINE_multi_string("set", [], "SECTION.FIELD=VALUE, of every run.")
WORKDIR = flags.DEFINE_string("workdir", "runs/paper", "The runs, in WORKDIR/SCALE/DATASET/NAME.")


class Dataset(NamedTuple):
    """What an entry of --datasets means.

    Attributes:
      label: in tables, and of the runs' folder.
      environment: of ours.
      level: of the environment, or "".
      source: a file, or a name for `config.dataset.name`, or "".
    """

    label: str
    environment: str
    level: str = ""
    source: str = ""


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


def parse_dataset(text: str) -> Dataset:
    """An environment (its own level), ENVIRONMENT:LEVEL, ENVIRONMENT:FILE, or a file or D4RL's name
    that begins with the environment's.

    Raises:
      ConfigError: no environment of ours goes with it.
    """
    environment, colon, rest = text.partition(":")
    if environment in TASKS:
        task = TASKS[environment]
        level = rest if colon else task.default_level
        if level in task.levels:
            return Dataset(f"{environment}-{level}", environment, level)
        return Dataset(Path(rest).stem, environment, source=rest)
    for known, task in TASKS.items():
        for level, of_level in task.levels.items():
            if text == of_level:  # its published settings are those of the level
                return Dataset(f"{known}-{level}", known, level)
    name = Path(text).stem.replace("-", "_")
    found = [known for known in TASKS if name.startswith(f"{known}_")]
    if not found:
        raise ConfigError(
            f"--datasets={text}: begins with none of {', '.join(TASKS)}; give ENVIRONMENT:FILE"
        )
    return Dataset(Path(text).stem, max(found, key=len), source=text)


def score(dataset: Dataset, wanted: Wanted, request: Request) -> dict[str, Any]:
    """The row of one method on one dataset, from its run's folder.

    Returns:
      dataset, name, title; seeds; mean, stderr, and low and high, Student's 95% interval over the
      seeds ("" for one seed); paper: its own score, "" but for D4RL's data; parameters, seconds.

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
        "name": wanted.name or wanted.method,
        "title": made["methods"][wanted.method]["title"],
        "seeds": len(found["per_seed"]),
        "mean": found["mean"],
        "stderr": found["stderr"],
        "low": low,
        "high": high,
        "paper": theirs.mean if theirs and not wanted.changes else "",
        "parameters": made["methods"][wanted.method]["parameters"],
        "seconds": sum(made["seconds"].values()),
    }


def summary(dataset: Dataset, wanted: Wanted, request: Request) -> dict[str, Any]:
    """The summary of the run of one method on one dataset, which is made where it is missing.

    Raises:
      ConfigError: a flag or field is not valid, or the folder has a run with others.
    """
    beside = Path(WORKDIR.value) / SCALE.value / dataset.label
    place = beside / (wanted.name or wanted.method)
    final, options = finalize(config_of(dataset, wanted))
    try:
        found = summaries.read(place)
    except WorkdirError:
        found = None
    if found is not None:
        if others := differing(found["config"], to_plain(final)):
            raise ConfigError(
                f"{place}: a run with other {', '.join(others)}; choose another --workdir"
            )
        return found
    print(f"\n{place}", flush=True)
    others = [path.parent for path in sorted(beside.glob("*/manifest.json"))]
    reuse = [other for other in others if other != place]
    made = run(final, place, request, None, options.checkpoint_seconds, reuse)
    assert made is not None  # nothing stops it before its end
    return made


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
    if not all(seed.isdecimal() for seed in SEEDS.value):
        raise ConfigError(f"--seeds={','.join(SEEDS.value)}: whole numbers are meant")
    config.seeds = tuple(map(int, SEEDS.value))[: wanted.seeds]
    for change in SET.value:
        name, values = parse_values(config, change)
        config = changed(config, {name: next(iter(values.values()))})
    return changed(config, wanted.changes)
