"""How much of a dataset to imitate, and whether the learned world can tell.

    python -m experiments.studies.shares --config=configs/hopper.py:small --config.dataset.path=FILE

Trains the world and, for each of --shares, students of the episodes that `filter.rule=share` keeps
of it; rolls all of them out in the world and in the simulator. Writes NAME.csv in --results with a
row for each student:

- `share`, `seed`, `episodes`, `transitions`: of what it imitates;
- `score`: in the simulator, mean of config.evaluation.episodes;
- `judged`, `disagreement`, `left`: in the world, of --judged episodes (`models/referee.py`);

and NAME-worlds.csv with one row: the world's held-out error, Pearson's and Spearman's correlation
over students, the mean of judged - score, the share with the best `judged`, what its students
score, and what those of the best share do.

What is trained is kept in --workdir: a second call with other --judged trains nothing.
"""

import sys
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from scipy import stats

from experiments.studies.teachers import opened
from experiments.tables import show, write
from tskd_jax.config import finalize
from tskd_jax.data.selection import Config as FilterConfig
from tskd_jax.data.selection import select_episodes
from tskd_jax.evaluation.stages import evaluate
from tskd_jax.methods.base import Experiment
from tskd_jax.methods.parts.models import train_world
from tskd_jax.models import cloning, referee
from tskd_jax.run.run import Run
from tskd_jax.training import seeds

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:small")
SHARES = flags.DEFINE_list(
    "shares", ["0.001", "0.02", "0.05", "0.1", "0.2", "0.4", "1"], "Of the transitions."
)
JUDGED = flags.DEFINE_integer("judged", 40, "Episodes of each student in the world.", 1)
WORKDIR = flags.DEFINE_string("workdir", None, "Where what is trained is, or is made.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/shares", "Folder.")


def measure(exp: Experiment, run: Run) -> tuple[list[dict], dict]:
    """(a row for each student, and one for the world)."""
    config, task, recorded = exp.config, exp.task, exp.recorded
    model = seeds.of_seed(train_world(exp), 0)
    starts = recorded.initial_observations
    starts = starts[np.random.default_rng(0).integers(len(starts), size=JUDGED.value)]
    rows, data = [], Path(run.manifest["notes"]["dataset"]["name"]).stem
    for share in map(float, SHARES.value):
        rule = FilterConfig(rule="share", share=share)
        kept = recorded.select(select_episodes(rule, recorded, recorded, task.episode_limit))
        name = f"share_{share:g}"
        policies = exp.stage(
            *(cloning.train, config.student, [kept], task, config.seeds), name=f"student.{name}"
        )
        returns = exp.stage(
            *(evaluate, config.evaluation.episodes, policies, task, config.seeds),
            name=f"evaluation.{name}",
        )
        verdict = referee.judge(model, policies, task, starts, jax.random.key(1))
        scores, judged = (task.normalized_score(x).mean(1) for x in (returns, verdict.returns))
        for index, seed in enumerate(config.seeds):
            row = {"data": data, "share": share, "seed": seed}
            row |= {"episodes": len(kept.lengths), "transitions": kept.size}
            row |= {"score": float(scores[index]), "judged": float(judged[index])}
            row["disagreement"] = float(verdict.disagreement[index].mean())
            row["left"] = float(verdict.left[index].mean())
            rows.append(row)
            show(row)
    scores, judged = (np.array([row[name] for row in rows]) for name in ("score", "judged"))
    of_share, said = (x.reshape(len(SHARES.value), -1).mean(1) for x in (scores, judged))
    world = {"data": data} | dict(run.metrics("world"))
    world |= {
        "pearson": float(stats.pearsonr(scores, judged)[0]),
        "spearman": float(stats.spearmanr(scores, judged)[0]),
        "bias": float((judged - scores).mean()),
        "chosen": float(SHARES.value[int(said.argmax())]),
        "chosen_score": float(of_share[said.argmax()]),
        "best_score": float(of_share.max()),
    }
    show(world)
    return rows, world


def main(_argv) -> None:
    config, options = finalize(CONFIG.value)
    with opened(config, options, WORKDIR.value) as (exp, run):
        rows, world = measure(exp, run)
    path = write(rows, RESULTS.value, NAME.value)
    write([world], RESULTS.value, f"{path.name}-worlds")


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
