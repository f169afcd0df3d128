"""What does a decision cost, one observation at a time, in each form of a student?

    python -m experiments.benchmarks.policy_forms [--student=STUDENT] [--repeats=400]
        [--environment=hopper --episodes=10] [--name=NAME]

STUDENT is a file or the folder of a run; without one it is a random student of the paper's size,
11 → 256 → 256 → 3. Forms are those of `tskd-jax export`: NumPy, ONNX Runtime and TFLite with one
thread (where they are installed), C with -O3 (where there is a compiler), in full precision and
with weights of 8 bits. Times are of one decision, the median and the fastest tenth of many short
bursts in one process; those of C are taken around a loop within C. With --episodes the forms play
the same episodes of a named environment, one observation at a time: the mean score, and how far the
score of an episode is from NumPy's at most; and how far an action is at most, in half-widths of the
bounds, in the states that NumPy's own episodes went through. `numpy, two rows` is NumPy given the
observation twice, for which it sums in another order: differences like its own are rounding, and no
fault of a form. Prints a table and writes NAME.csv into --results.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

from experiments.benchmarks.forms import PAPER_SIZES, Act, forms
from experiments.tables import show, write
from tskd_jax.cli.student_files import student_file
from tskd_jax.costs.fresh import random_student
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import episode_seeds, record
from tskd_jax.envs.tasks import Task
from tskd_jax.policy import Bounds, Policy, load_policy

STUDENT = flags.DEFINE_string("student", None, "A file, or the folder of a run.")
CALLS = flags.DEFINE_integer("calls", 20, "Decisions of a burst.", 1)
REPEATS = flags.DEFINE_integer("repeats", 400, "Bursts of each form.", 1)
ENVIRONMENT = flags.DEFINE_string("environment", "hopper", "Where --episodes are played.")
EPISODES = flags.DEFINE_integer("episodes", 0, "Played by each form.", 0)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/policy_forms", "Folder.")


def microseconds(acts: dict[str, Act], observations: np.ndarray) -> dict[str, np.ndarray]:
    """(repeats,) of a decision of each form, by turns: what else the machine does, all of them see.

    A burst is a call for each row, and of C one call of all rows.
    """
    spent: dict[str, list[float]] = {name: [] for name in acts}
    rows = [row[None] for row in observations]
    for _ in range(REPEATS.value + 5):
        for name, act in acts.items():
            within = name.startswith("c")
            begin = time.perf_counter_ns()
            if within:
                act(observations)
            else:
                for row in rows:
                    act(row)
            spent[name].append((time.perf_counter_ns() - begin) / 1000 / len(rows))
    return {name: np.array(times[5:]) for name, times in spent.items()}


def played(act: Act, task: Task) -> Trajectories:
    """Episodes, one observation at a time as on a robot."""

    def one_by_one(states: np.ndarray, _time: int, _rewards: np.ndarray) -> np.ndarray:
        return np.concatenate([act(state[None]) for state in states.astype(np.float32)])

    return record(one_by_one, task, episode_seeds(0, EPISODES.value))


def apart(act: Act, policy: Policy, observations: np.ndarray) -> float:
    """The largest difference of an action from NumPy's, in half-widths of the bounds."""
    rows = observations.astype(np.float32)
    found = np.concatenate([act(row[None]) for row in rows]).astype(np.float64)
    return float((np.abs(found - [policy(row) for row in rows]) / policy.bounds.affine[1]).max())


def _random() -> Policy:
    return random_student(PAPER_SIZES, Bounds.symmetric(1.0, PAPER_SIZES[-1]))


def main(_argv) -> None:
    policy = load_policy(student_file(STUDENT.value)) if STUDENT.value else _random()
    size = len(policy.weights[0])
    observations = np.random.default_rng(0).normal(size=(CALLS.value, size)).astype(np.float32)
    table: list[dict[str, Any]] = []
    right = None
    found = forms(policy)
    times = microseconds({name: act for name, _, act in found}, observations)
    for name, count, act in found:
        row: dict[str, Any] = {
            "student": Path(STUDENT.value).name if STUDENT.value else "random",
            "parameters": policy.parameters,
            "form": name,
            "microseconds": float(np.median(times[name])),
            "fastest_tenth": float(np.quantile(times[name], 0.1)),
            "file_bytes": count,
        }
        if EPISODES.value:
            task = get_task(ENVIRONMENT.value)
            episodes = played(act, task)
            scores = np.asarray(task.normalized_score(episodes.returns()))
            right = (scores, episodes.observations) if right is None else right
            off = float(np.abs(scores - right[0]).max())
            row |= {"score": float(scores.mean()), "largest_from_numpy": off}
            row |= {"action_on_numpys_path": apart(act, policy, right[1])}
        table.append(row)
        show(row)
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
