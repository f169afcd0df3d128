"""What does a change to DDR-I do to what it plans and imagines?

    python experiments/teacher_trial.py [--config=configs/hopper.py:quick]
        [--vary=trajectory_generator.prediction=noise,velocity] [--vary=…] [--name=NAME]

Trains DDR-I as the config has it, and again with one field changed, for every value of every
`--vary`; the inverse dynamics are shared, and a field of `sampling` needs no training of its own.
One row for each, written into NAME.csv in --results when it is known:

- `one_step`: error of imagined steps from recorded states against the simulator, in standard
  deviations of the state; `of_recorded` is that of recorded steps through the same inverse
  dynamics, `nothing_moves` that of the claim s' = s.
- `planner`: normalised score of DDR-I planning in the simulator (Algorithm 1 to the letter), mean
  and standard error over `--episodes`.
- `imagined_steps`, `imagined_return`, `imagined_error`: of `--trajectories` imagined from recorded
  starts, the error as above, over all their steps.
- `student`: normalised score of students of nothing but what the config's `imagination` makes of
  it, mean and standard error over `config.seeds`, `--episodes` each; `student_error`: of that data,
  the error as above. With --students only: they take a minute or two for each row.
- `seconds`: of the training, and of everything.
"""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags
from students import imagined, score
from tables import show, write
from variants import variants

from tskd_jax.data.selection import worth_imitating
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task, get_task
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import episode_seeds, rollout
from tskd_jax.evaluation.scores import standard_error
from tskd_jax.machine.types import Config
from tskd_jax.methods.stages import load_recorded, named_keys, train_inverse_dynamics
from tskd_jax.models import baseline as expectation
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.run.run import Run
from tskd_jax.teacher import trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.imagination import imagine
from tskd_jax.teacher.planner import Planner
from tskd_jax.training.training import Hooks

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:quick")
VARY = flags.DEFINE_multi_string("vary", [], "SECTION.FIELD=VALUE,… of DDR-I or its sampling.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the inverse dynamics are, or are made.")
EPISODES = flags.DEFINE_integer("episodes", 20, "Planned in the simulator, or by a student.", 2)
TRAJECTORIES = flags.DEFINE_integer("trajectories", 32, "Imagined.", 1)
STATES = flags.DEFINE_integer("states", 1500, "Recorded states to imagine one step from.", 1)
STUDENTS = flags.DEFINE_bool("students", False, "Whether students are trained, too.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/teacher_trial", "Folder.")


def measure(
    config: Config, task: Task, recorded: Trajectories, inverse: InverseDynamics, model: Diffuser
) -> dict[str, Any]:
    """What that teacher plans and imagines."""
    deviation = recorded.observations.std(0)
    rng = np.random.default_rng(0)
    states = recorded.observations[rng.choice(recorded.size, STATES.value)]
    one_step = dataclasses.replace(
        task, episode_limit=1, alive=lambda states: jnp.ones(states.shape[:-1], bool)
    )
    key = jax.random.key(1)
    steps = imagine(model, config.sampling, one_step, inverse, states, key, chunk=STATES.value)
    about = simulator_check.check(task, inverse, steps, deviation, STATES.value)

    planner = Planner(model, config.sampling, inverse, named_keys(config, "planner")[0])
    returns = rollout(planner, task, episode_seeds(config.seed, EPISODES.value))
    scores = task.normalized_score(returns)

    starts = recorded.initial_observations
    starts = starts[rng.integers(len(starts), size=TRAJECTORIES.value)]
    whole = imagine(model, config.sampling, task, inverse, starts, jax.random.key(2))
    of_imagined = simulator_check.check(task, inverse, whole, deviation, STATES.value)
    about_students = {}
    if STUDENTS.value:
        made = imagined(config, config.sampling, recorded, task, model, inverse)
        of_students = score(config, task, made, EPISODES.value).mean(1)
        about_students = {
            "student": float(of_students.mean()),
            "student_stderr": float(standard_error(of_students)),
            "student_error": simulator_check.check(task, inverse, made, deviation, STATES.value)[
                "error"
            ],
        }
    return {
        "one_step": about["error"],
        "nothing_moves": about["nothing_moves"],
        "planner": float(scores.mean()),
        "planner_stderr": float(standard_error(scores)),
        "imagined_steps": float(whole.lengths.mean()),
        "imagined_return": float(whole.returns().mean()),
        "imagined_error": of_imagined["error"],
    } | about_students


def main(_argv) -> None:
    chosen = list(variants(CONFIG.value, VARY.value, ("trajectory_generator", "sampling")))
    base = chosen[0][1]
    task = get_task(base.environment.name)
    run = Run(Path(WORKDIR.value or Path("runs") / base.label), base)
    recorded = load_recorded(base, task, run)
    inverse = train_inverse_dynamics(base, recorded, task, run)[0]
    run.close()

    deviation = recorded.observations.std(0)
    of_recorded = simulator_check.check(task, inverse, recorded, deviation, STATES.value)
    table, trained = [], {}
    for name, config in chosen:
        begin = time.perf_counter()
        if config.trajectory_generator not in trained:
            expected = None
            if trajectory_generator.needs_expectation(config.trajectory_generator):
                discount = config.trajectory_generator.discount
                expected, _ = expectation.train(config.expectation, recorded, discount, Hooks())
            fresh = trajectory_generator.create(config.trajectory_generator, recorded, expected)
            key = named_keys(config, "trajectory_generator")[0]
            trained[config.trajectory_generator] = trajectory_generator.train(
                fresh,
                recorded,
                key,
                Hooks(),
                expected,
                worth_imitating(config.filter, recorded, task.episode_limit),
            )[0]
        training = time.perf_counter() - begin
        row = {"variant": name} | measure(
            config, task, recorded, inverse, trained[config.trajectory_generator]
        )
        row |= {"of_recorded": of_recorded["error"]}
        row |= {"training_seconds": training, "seconds": time.perf_counter() - begin}
        table.append(row)
        show(row)
        write(table, RESULTS.value, NAME.value)  # after each row: they take minutes


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
