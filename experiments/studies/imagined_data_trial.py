"""What does DDR-I's imagination add to a student? (the filter alone, with it, and it alone)

    python -m experiments.studies.imagined_data_trial [--config=configs/hopper.py:small]
        [--workdir=DIR] [--guidances=1,2] [--students=10000x256,40000x64] [--name=NAME]

Trains the teacher of a config (or takes it from a run's folder), imagines as the last of its
methods does, for each guidance weight w, and compares students of: the best `filter.share`
of the recorded transitions, the same with what was imagined, and that alone; each in all trainings
that `--students` names. One row each, written into NAME.csv in --results when it is known:

- `updates`, `batch`: of the students' training.
- `mean`, `stderr`: normalised score over `config.seeds`; `low`, `high`: 95% bootstrap interval of
  its interquartile mean.
- `difference_low`, `difference_high`: 95% interval of the mean difference to the filter alone in
  the same training, Welch's over seeds.
- `check`: error of imagined transitions in the simulator, in standard deviations of the state;
  `check_recorded`: that of recorded ones through the same inverse dynamics.
- `training_seconds`: of DDR-I and what it is made of; `seconds`: of the row.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.studies.students import imagined, score
from experiments.studies.teachers import opened, seconds_of, train_teacher
from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.config import Config, finalize, override
from tskd_jax.data.selection import best_episodes
from tskd_jax.data.trajectories import Trajectories, concatenate
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.scores import difference, summarize
from tskd_jax.machine.signals import Request
from tskd_jax.training import seeds

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:small")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the teacher is trained, or already is.")
GUIDANCES = flags.DEFINE_list("guidances", [], "Weights w; none: the config's.")
STUDENTS = flags.DEFINE_list("students", [], "UPDATESxBATCH, …; none: the config's.")
COUNT = flags.DEFINE_integer("trajectories", None, "How many are imagined; None: config's n.", 1)
EPISODES = flags.DEFINE_integer("episodes", 20, "Evaluation episodes a seed.", 1)
CHECKED = flags.DEFINE_integer("checked", 1500, "Transitions tried in the simulator.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/imagined_data_trial", "Folder.")


def main(_argv) -> int:
    return run_to_exit_status(compare)


def compare(request: Request) -> int:
    """Print and write the table."""
    config, options = finalize(CONFIG.value)
    chosen = _students(config)
    with opened(config, options, WORKDIR.value, request) as (exp, run):
        teacher = train_teacher(exp)
        training = seconds_of(run, run.used)
    task, recorded = exp.task, exp.recorded
    inverse = seeds.of_seed(teacher.inverse_dynamics, 0)

    deviation = recorded.observations.std(0)

    def check(data: Trajectories) -> float:
        return simulator_check.check(task, inverse, data, deviation, CHECKED.value)["error"]

    best, _ = best_episodes(recorded, config.filter.share, task.episode_limit)
    filtered = recorded.select(np.sort(best))
    table, of_filter = [], {}
    shared = {"check_recorded": check(recorded), "training_seconds": training}

    def add(name: str, data: Trajectories, checked: float) -> None:
        for student in chosen:
            begin = time.perf_counter()
            scores = score(student, task, data, EPISODES.value)
            summary = summarize(scores)
            low, high = summary["interval"]
            row: dict[str, Any] = {"data": name, "transitions": data.size}
            row |= {"updates": student.student.steps, "batch": student.student.batch_size}
            row |= {"mean": summary["mean"], "stderr": summary["stderr"], "low": low, "high": high}
            compared = _difference(scores, of_filter.setdefault(student.student, scores))
            row |= dict(zip(("difference_low", "difference_high"), compared, strict=True))
            row |= {"check": checked} | shared | {"seconds": time.perf_counter() - begin}
            table.append(row)
            show(row)
            write(table, RESULTS.value, NAME.value)

    add("filtered", filtered, check(filtered))
    for weight in map(float, GUIDANCES.value or [config.sampling.guidance]):
        sampling = dataclasses.replace(config.sampling, guidance=weight)
        made = imagined(exp, sampling, teacher, COUNT.value)
        checked = check(made)
        add(f"filtered + imagined, w = {weight:g}", concatenate([filtered, made]), checked)
        add(f"imagined, w = {weight:g}", made, checked)
    return 0


def _students(config: Config) -> list[Config]:
    """The config with each of the students' trainings that are asked for."""
    if not STUDENTS.value:
        return [config]
    students = []
    for asked in STUDENTS.value:
        steps, _, batch = asked.partition("x")
        if not (steps.isdigit() and batch.isdigit() and int(steps) and int(batch)):
            raise ConfigError(f"--students: {asked!r} is not UPDATESxBATCH, such as 10000x256")
        training = {"student.steps": int(steps), "student.batch_size": int(batch)}
        students.append(override(config, training))
    return students


def _difference(scores: np.ndarray, others: np.ndarray) -> Sequence[float]:
    interval = None if others is scores else difference(scores, others)["interval"]
    return interval or (float("nan"), float("nan"))


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
