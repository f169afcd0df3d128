"""What does a teacher of few network calls lose, and what does it save?

    python -m experiments.studies.few_steps [--config=configs/hopper.py:small] [--calls=1,2,4]
        [--workdir=DIR] [--name=NAME] [--students] [--episodes=20] [--batch=1024]

Trains DDR-I and the inverse dynamics of a config, or takes them from --workdir, distils DDR-I into
as many network calls as --calls says (`config.few_steps`), and compares the results with DDR-I
under the config's own sampler and under those of --samplers. A row for each, written into NAME.csv:

- `calls`: network evaluations of one plan, of every member and of both halves of a guided batch.
- `plans_per_second`, `speedup`: of plans of --batch histories, compiled and warm; the median of
  --repeats rounds in which all ways take turns, and its ratio to the first row's.
- `one_step`: error of imagined steps from --states recorded states against the simulator, in
  standard deviations of the state.
- `held_out_r2`: of a distilled teacher's plans against DDR-I's, from episodes held out.
- `planner`: normalised score of plans in the simulator, mean and standard error over --episodes.
- `student`: normalised score of students of nothing but what it imagines as the last of the
  config's methods does, mean and standard error over `config.seeds`; with --students only.
- `training_seconds`: of the distillation, the table of DDR-I's plans included.
"""

import dataclasses
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.studies.students import imagined, score
from experiments.studies.teachers import first_seed, opened, seconds_of, train_teacher
from experiments.tables import show, write
from tskd_jax.config import finalize, override
from tskd_jax.envs.simulator import episode_seeds
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.rollout import rollout
from tskd_jax.evaluation.scores import standard_error
from tskd_jax.methods.base import Experiment, Teacher, stage_keys
from tskd_jax.methods.parts.models import train_planner
from tskd_jax.run.run import Run
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.imagination import imagine
from tskd_jax.teacher.planner import planner_of_seed
from tskd_jax.teacher.planning import plan
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:small")
CALLS = flags.DEFINE_list("calls", ["1", "2", "4"], "Network calls to distil DDR-I into.")
SAMPLERS = flags.DEFINE_list("samplers", ["dpm++:5"], "KIND:STEPS of DDR-I, beside its own.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where what is trained is, or is made.")
EPISODES = flags.DEFINE_integer("episodes", 20, "Planned in the simulator, or by a student.", 2)
STATES = flags.DEFINE_integer("states", 1500, "Recorded states to imagine one step from.", 1)
STUDENTS = flags.DEFINE_bool("students", False, "Whether students are trained, too.")
BATCH = flags.DEFINE_integer("batch", 1024, "Plans at once, to be timed.", 1)
REPEATS = flags.DEFINE_integer("repeats", 15, "Rounds of timing; medians count.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/few_steps", "Folder.")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to plan.

    Attributes:
      name: of the row.
      model: of the first seed, a leading axis of one.
      sampling: how it is sampled.
      row: what is known of it already.
    """

    name: str
    model: Diffuser
    sampling: SamplingConfig
    row: dict[str, Any]

    def calls(self) -> int:
        """Network evaluations of one plan."""
        both = 1 if self.sampling.guidance in (0, 1) else 2
        return self.sampling.steps * self.model.config.members * both


def ways(exp: Experiment, run: Run, ddr1: Diffuser) -> list[Way]:
    """DDR-I as the config samples it, with other samplers, and what it is distilled into."""
    own = exp.config.teacher_sampling(0)
    itself: dict[str, Any] = {"held_out_r2": "", "training_seconds": ""}
    found = [Way(f"{own.sampler}, {own.steps} steps", ddr1, own, itself)]
    for name in SAMPLERS.value:
        kind, _, steps = name.partition(":")
        sampling = dataclasses.replace(own, sampler=kind, steps=int(steps))
        found.append(Way(f"{kind}, {steps} steps", ddr1, sampling, itself))
    for calls in map(int, CALLS.value):
        config = override(exp.config, {"few_steps.calls": calls})
        varied = Experiment(exp.name, config, exp.task, exp.recorded, run)
        model = first_seed(train_planner(varied))
        key = run.used[-1]
        row = {"held_out_r2": run.metrics(key)["held_out_r2"]}
        row |= {"training_seconds": seconds_of(run, [key])}
        found.append(Way(f"distilled, {calls} calls", model, config.teacher_sampling(0), row))
    return found


def plans_per_second(exp: Experiment, chosen: list[Way]) -> list[float]:
    """Of each way, in rounds in which all take turns: what else the machine does hits all."""
    rng = np.random.default_rng(0)
    rows = rng.choice(exp.recorded.size, BATCH.value)
    programs = []
    for way in chosen:
        model = jax.device_put(seeds.of_seed(way.model, 0))
        states = model.states.normalize(exp.recorded.observations[rows])
        padding = ((0, 0), (0, model.config.context - 1), (0, 0))
        history = jnp.pad(states[:, None], padding)
        keys = jax.random.split(jax.random.key(0), BATCH.value)
        # The model is an argument: as a constant XLA would compute with it beforehand.
        program = jax.jit(plan, static_argnums=1)
        programs.append(partial(program, model, way.sampling, history, jnp.int32(1), keys))
        jax.block_until_ready(programs[-1]())
    spent: list[list[float]] = [[] for _ in programs]
    for _ in range(REPEATS.value):
        for program, own in zip(programs, spent, strict=True):
            begin = time.perf_counter()
            jax.block_until_ready(program())
            own.append(time.perf_counter() - begin)
    return [BATCH.value / float(np.median(own)) for own in spent]


def measure(exp: Experiment, way: Way, teacher: Teacher) -> dict[str, Any]:
    """What that way plans in the simulator, and what students of it are worth."""
    task, recorded, inverse = exp.task, exp.recorded, teacher.inverse_dynamics
    rng = np.random.default_rng(0)
    states = recorded.observations[rng.choice(recorded.size, STATES.value)]
    one_step = dataclasses.replace(
        task, episode_limit=1, alive=lambda states: jnp.ones(states.shape[:-1], bool)
    )
    key = jax.random.key(1)[None]
    (steps,) = imagine(
        way.model, way.sampling, one_step, inverse, states[None], key, chunk=STATES.value
    )
    deviation, one = recorded.observations.std(0), seeds.of_seed(inverse, 0)
    checked = simulator_check.check(task, one, steps, deviation, STATES.value)
    key = stage_keys("planner", exp.seeds)[0]
    planner = planner_of_seed(way.model, way.sampling, inverse, 0, key)
    returns = rollout(planner, task, episode_seeds(exp.config.seed, EPISODES.value))
    scores = task.normalized_score(returns)
    row = {
        "one_step": checked["error"],
        "nothing_moves": checked["nothing_moves"],
        "planner": float(scores.mean()),
        "planner_stderr": float(standard_error(scores)),
    }
    if STUDENTS.value:
        made = imagined(exp, way.sampling, Teacher(way.model, inverse))
        of_students = score(exp.config, task, made, EPISODES.value).mean(1)
        row["student"] = float(of_students.mean())
        row["student_stderr"] = float(standard_error(of_students))
    return row


def main(_argv) -> None:
    table = []
    with opened(*finalize(CONFIG.value), WORKDIR.value) as (exp, run):
        teacher = train_teacher(exp)
        chosen = ways(exp, run, teacher.trajectory_generator)
        speeds = plans_per_second(exp, chosen)
        for way, speed in zip(chosen, speeds, strict=True):
            row = {"sampling": way.name, "calls": way.calls(), "plans_per_second": speed}
            row |= {"speedup": speed / speeds[0]} | measure(exp, way, teacher) | way.row
            table.append(row)
            show(row)
            write(table, RESULTS.value, NAME.value)  # after each row: they take minutes


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
