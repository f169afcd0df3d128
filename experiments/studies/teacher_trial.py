"""What does a change to DDR-I do to what it plans and imagines?

    python -m experiments.studies.teacher_trial [--config=configs/hopper.py:quick]
        [--vary=trajectory_generator.prediction=noise,velocity] [--vary=…] [--name=NAME]

Trains DDR-I as the config has it, and again with one field changed, for every value of every
`--vary`; the inverse dynamics are shared, and a field of `sampling` needs no training of its own.
What is trained is kept in --workdir, so that the same command goes on where it was interrupted.
One row for each, written into NAME.csv in --results when it is known:

- `one_step`: error of imagined steps from recorded states against the simulator, in standard
  deviations of the state; `of_recorded` is that of recorded steps through the same inverse
  dynamics, `nothing_moves` that of the claim s' = s.
- `planner`: normalised score of DDR-I planning in the simulator (Algorithm 1 to the letter), mean
  and standard error over `--episodes`.
- `imagined_steps`, `imagined_return`, `imagined_error`: of `--trajectories` imagined from recorded
  starts, the error as above, over all their steps.
- `grounded`: normalised score of as many executed in the learned world, mean and standard error,
  where the config has one (`imagination.world`): it should foretell `planner`. `grounded_steps`;
  `grounded_left`, the share that left what the world knows; `grounded_error`, the error as above.
- `student`: normalised score of students of nothing but what it imagines as the last of the
  config's methods does, mean and standard error over `config.seeds`, `--episodes` each;
  `student_error`: of that data, the error as above. With --students only: they take a minute or
  two for each row.
- `training_seconds`: of DDR-I, whenever it was trained; `seconds`: of that and of the row.
"""

import dataclasses
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.studies.students import imagined, score
from experiments.studies.teachers import first_seed, opened, seconds_of, train_inverse_dynamics
from experiments.studies.variants import variants
from experiments.tables import show, write
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import episode_seeds
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import rollout
from tskd_jax.evaluation.scores import standard_error
from tskd_jax.methods.base import Experiment, Teacher, stage_keys
from tskd_jax.methods.parts.models import train_trajectory_generator, train_world
from tskd_jax.teacher.imagination import imagine
from tskd_jax.teacher.planner import planner_of_seed
from tskd_jax.training import seeds

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:quick")
VARY = flags.DEFINE_multi_string("vary", [], "SECTION.FIELD=VALUE,… of DDR-I or its sampling.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where what is trained is, or is made.")
EPISODES = flags.DEFINE_integer("episodes", 20, "Planned in the simulator, or by a student.", 2)
TRAJECTORIES = flags.DEFINE_integer("trajectories", 32, "Imagined.", 1)
STATES = flags.DEFINE_integer("states", 1500, "Recorded states to imagine one step from.", 1)
STUDENTS = flags.DEFINE_bool("students", False, "Whether students are trained, too.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/teacher_trial", "Folder.")


def measure(exp: Experiment, teacher: Teacher) -> dict[str, Any]:
    """What that teacher, of one seed behind a leading axis of one, plans and imagines."""
    config, task, recorded = exp.config, exp.task, exp.recorded
    inverse = teacher.inverse_dynamics

    def check(claimed: Trajectories) -> dict[str, float]:
        deviation, one = recorded.observations.std(0), seeds.of_seed(inverse, 0)
        return simulator_check.check(task, one, claimed, deviation, STATES.value)

    rng = np.random.default_rng(0)
    states = recorded.observations[rng.choice(recorded.size, STATES.value)]
    one_step = dataclasses.replace(
        task, episode_limit=1, alive=lambda states: jnp.ones(states.shape[:-1], bool)
    )
    model, key = teacher.trajectory_generator, jax.random.key(1)[None]
    (steps,) = imagine(
        model, config.sampling, one_step, inverse, states[None], key, chunk=STATES.value
    )
    of_steps = check(steps)

    key = stage_keys("planner", exp.seeds)[0]
    planner = planner_of_seed(model, config.sampling, inverse, 0, key)
    returns = rollout(planner, task, episode_seeds(config.seed, EPISODES.value))
    scores = task.normalized_score(returns)

    starts = recorded.initial_observations
    starts = starts[rng.integers(len(starts), size=TRAJECTORIES.value)]
    key = jax.random.key(2)[None]
    (whole,) = imagine(model, config.sampling, task, inverse, starts[None], key)
    grounded = {}
    if teacher.world is not None:
        made, grounded = _grounded(exp, teacher, starts, key)
        grounded["grounded_error"] = check(made)["error"]
    row = {
        "one_step": of_steps["error"],
        "nothing_moves": of_steps["nothing_moves"],
        "planner": float(scores.mean()),
        "planner_stderr": float(standard_error(scores)),
        "imagined_steps": float(whole.lengths.mean()),
        "imagined_return": float(whole.returns().mean()),
        "imagined_error": check(whole)["error"],
    } | grounded
    if STUDENTS.value:
        made = imagined(exp, config.sampling, teacher)
        of_students = score(config, task, made, EPISODES.value).mean(1)
        row["student"] = float(of_students.mean())
        row["student_stderr"] = float(standard_error(of_students))
        row["student_error"] = check(made)["error"]
    return row | {"of_recorded": check(recorded)["error"]}


def _grounded(
    exp: Experiment, teacher: Teacher, starts: np.ndarray, key: jax.Array
) -> tuple[Trajectories, dict[str, Any]]:
    """Whole trajectories in the learned world, and what is said of them."""
    (made,) = imagine(
        *(teacher.trajectory_generator, exp.config.sampling, exp.task, teacher.inverse_dynamics),
        *(starts[None], key),
        world=teacher.world,
        random_member=exp.config.imagination.world == "random_member",
    )
    scores = exp.task.normalized_score(made.returns())
    last = made.ends
    ended = ~np.asarray(exp.task.alive(jnp.asarray(made.next_observations[last])))
    return made, {
        "grounded": float(scores.mean()),
        "grounded_stderr": float(standard_error(scores)),
        "grounded_steps": float(made.lengths.mean()),
        "grounded_left": float((made.terminals[last] & ~ended).mean()),
    }


def main(_argv) -> None:
    chosen = list(variants(CONFIG.value, VARY.value, ("trajectory_generator", "sampling")))
    table = []
    with opened(*chosen[0][1], WORKDIR.value) as (exp, run):
        inverse = train_inverse_dynamics(exp)
        grounds = exp.config.imagination.world != "none"
        world = first_seed(train_world(exp)) if grounds else None
        for name, (config, _) in chosen:
            varied, used = Experiment(name, config, exp.task, exp.recorded, run), len(run.used)
            model = first_seed(train_trajectory_generator(varied))
            training, begin = seconds_of(run, run.used[used:]), time.perf_counter()
            row = {"variant": name} | measure(varied, Teacher(model, inverse, world))
            row |= {"training_seconds": training}
            row |= {"seconds": training + time.perf_counter() - begin}
            table.append(row)
            show(row)
            write(table, RESULTS.value, NAME.value)  # after each row: they take minutes


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
