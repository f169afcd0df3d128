"""How well learned worlds judge students: their scores beside the simulator's.

    python -m experiments.studies.referee --runs=DIR,… [--world='steps=4000 hidden=(512,512)' …] \
        [--fitted_q=20000]

For each finished run and each kind of world, a world is trained on the run's dataset (its config's
`world` section, changed as --world says), and all students are rolled out in it. Writes NAME.csv in
--results, with a row for each student:

- `run`, `world`, `method`, `seed`: whose it is; `score`: in the simulator, of the run's own
  evaluation.
- `judged`, `judged_stderr`: normalised score in the world, and its standard error over episodes.
- `steps`: mean length there; `disagreement`: of the members on the way.
- `fitted_q`: discounted return by fitted Q evaluation, with --fitted_q updates.
- `error`: of the members' mean where the student really goes, in the simulator: root mean square of
  s', in standard deviations of the dataset's states.
- `rollout_error`: the same of --steps steps of the student's rollouts in the world, compared with
  the simulator's steps from the same states; `rollout_median` is the median over steps.

and NAME-worlds.csv with a row for each world of each run: its held-out error and seconds, Pearson's
and Spearman's correlation of both scores (and with `fitted_q`, and of what it and the world say of
whole methods), the mean of judged - score, what the student that the
world likes best scores, and what the best one does.
"""

import ast
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags
from scipy import stats

from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import episode_seeds, record, step_from
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation.fitted_q import fitted_q
from tskd_jax.machine.signals import Request
from tskd_jax.models import referee, world
from tskd_jax.models.referee import Verdict
from tskd_jax.models.world import World
from tskd_jax.policy import Policy, load_policy
from tskd_jax.report import replay
from tskd_jax.training import seeds

RUNS = flags.DEFINE_list("runs", None, "Folders of finished runs.", required=True)
WORLDS = flags.DEFINE_multi_string(
    "world", [""], "Fields of `world` that differ from the run's, FIELD=VALUE with blanks between."
)
EPISODES = flags.DEFINE_integer("episodes", 40, "Of each student in the world.")
FITTED_Q = flags.DEFINE_integer("fitted_q", 0, "Updates of fitted Q evaluation; 0: none.")
STEPS = flags.DEFINE_integer("steps", 1000, "Of its rollouts that the simulator repeats; 0: none.")
WALKED = flags.DEFINE_integer("walked", 4, "Episodes of each student in the simulator.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/referee", "Folder.")


def changed(config: world.Config, text: str) -> world.Config:
    """That section with the fields of a --world."""
    pairs = (word.split("=") for word in text.split())
    return replace(config, **{name: ast.literal_eval(value) for name, value in pairs})


def students_of(folder: Path, summary: dict[str, Any], config: Any) -> list[dict[str, Any]]:
    """Name, seed, score and policy of each student of a finished run."""
    found = []
    for method in summary["scores"]:
        for place, seed in enumerate(config.seeds):
            path = folder / "students" / method / f"seed_{seed}.npz"
            if path.exists():
                score = summary["scores"][method]["per_seed"][place]
                names = {"method": method, "seed": seed, "score": float(score)}
                found.append(names | {"policy": load_policy(path)})
    return found


def walk(policy: Policy, task: Task) -> Trajectories:
    """Where a student really goes."""
    return record(
        lambda states, _time, _rewards: policy(states), task, episode_seeds(0, WALKED.value)
    )


def error_on(model: World, data: Trajectories, deviation: np.ndarray) -> float:
    next_states, _ = world.predictions(model, data.observations, data.actions)
    off = (next_states.mean(1) - data.next_observations) / deviation
    return float(np.sqrt(np.square(off).mean()))


def errors_in_rollouts(
    verdict: Verdict, index: int, policy: Policy, task: Task, deviation: np.ndarray
) -> np.ndarray:
    """Of some steps of a policy's rollouts in the world: root mean square of s', in deviations."""
    assert verdict.states is not None  # `judge` was to keep them
    states, lengths = verdict.states[index], verdict.lengths[index]
    episode, time = np.nonzero(np.arange(states.shape[1] - 1) < lengths[:, None] - 1)
    rows = np.random.default_rng(0).permutation(len(time))[: STEPS.value]
    episode, time = episode[rows], time[rows]
    before, claimed = states[episode, time], states[episode, time + 1]
    true, _ = step_from(task, before, policy(before))
    return np.sqrt(np.square((claimed - true) / deviation).mean(1))


def fit_q(config: Any, recorded: Trajectories, policies: list[Policy]) -> np.ndarray:
    """(P,) discounted returns by fitted Q evaluation; NaN if it is not asked for."""
    if not FITTED_Q.value:
        return np.full(len(policies), np.nan)
    section = replace(config.fitted_q, steps=FITTED_Q.value)
    values, _ = fitted_q(section, recorded, policies, keys=jax.random.key(2)[None])
    return values.mean(1)


def of_methods(rows: list[dict[str, Any]], column: str) -> float:
    """Spearman's correlation of the methods' mean scores with the means of a column."""
    methods = dict.fromkeys(row["method"] for row in rows)
    means = [
        [np.mean([row[key] for row in rows if row["method"] == method]) for method in methods]
        for key in ("score", column)
    ]
    return float(stats.spearmanr(*means)[0])


def main(_request: Request) -> int:
    """Train the worlds, and judge."""
    table, worlds = [], []
    for folder in map(Path, RUNS.value):
        summary, config = replay.read(folder / "summary.json")
        task = get_task(config.environment.name)
        recorded = load_dataset(config.dataset.path or config.dataset.name)
        deviation = np.maximum(recorded.observations.std(0), 1e-6)
        students = students_of(folder, summary, config)
        policies = [student.pop("policy") for student in students]
        walked = [walk(policy, task) for policy in policies]
        values = fit_q(config, recorded, policies)
        starts = recorded.initial_observations
        starts = starts[np.random.default_rng(0).choice(len(starts), EPISODES.value)]
        for text in WORLDS.value:
            begin = time.perf_counter()
            section = changed(config.world, text)
            models, (metrics,) = world.train(section, recorded, keys=jax.random.key(0)[None])
            seconds = time.perf_counter() - begin
            model = seeds.of_seed(models, 0)
            verdict = referee.judge(
                model, policies, task, starts, jax.random.key(1), keep_states=STEPS.value > 0
            )
            judged = task.normalized_score(verdict.returns)
            names = {"run": folder.name, "world": text}
            rows = []
            for index, student in enumerate(students):
                row = names | student
                row["judged"] = float(judged[index].mean())
                row["judged_stderr"] = float(judged[index].std() / np.sqrt(EPISODES.value))
                row["fitted_q"] = float(values[index])
                row["steps"] = float(verdict.lengths[index].mean())
                row["disagreement"] = float(verdict.disagreement[index].mean())
                row["error"] = error_on(model, walked[index], deviation)
                if STEPS.value:
                    off = errors_in_rollouts(verdict, index, policies[index], task, deviation)
                    row["rollout_error"] = float(np.sqrt(np.square(off).mean()))
                    row["rollout_median"] = float(np.median(off))
                rows.append(row)
                show(row)
            scores, ours = (np.array([row[name] for row in rows]) for name in ("score", "judged"))
            worlds.append(
                names
                | metrics
                | {
                    "seconds": seconds,
                    "pearson": float(stats.pearsonr(scores, ours)[0]),
                    "spearman": float(stats.spearmanr(scores, ours)[0]),
                    "fitted_q_spearman": float(stats.spearmanr(scores, values)[0]),
                    "methods_spearman": of_methods(rows, "judged"),
                    "methods_fitted_q_spearman": of_methods(rows, "fitted_q"),
                    "bias": float((ours - scores).mean()),
                    "picked": float(scores[ours.argmax()]),
                    "best": float(scores.max()),
                }
            )
            show(worlds[-1])
            table += rows
            path = write(table, RESULTS.value, NAME.value)
            write(worlds, RESULTS.value, f"{path.stem}-worlds")
    return 0


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
