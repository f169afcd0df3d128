"""What do fast samplers cost in quality?

    python -m experiments.studies.sampling_quality [--config=configs/hopper.py:small]
        [--workdir=DIR] [--name=NAME] [--starts=32] [--samples=32] [--trajectories=16]

Trains DDR-I and the inverse dynamics of a config (or takes them from a run's folder), and compares
ways of sampling with the reference: the ancestral sampler over all K steps. From each of `--starts`
recorded states, `--samples` futures are imagined in each way, up to the longest stride. Compared
are next state and reward after the first step, and again after the last: warm starts and strides
differ from the reference there only.

The distance is the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (unbiased, so that it
scatters about 0 between equals), averaged over start states, with a 95% bootstrap interval over
them; states are in standard deviations of a recorded step, rewards in their own. The first row is
the reference with other noise. `simulator` is the error of first steps against the simulator, in
standard deviations of the state. `score` is that of students of the best recorded transitions with
`--trajectories` imagined ones added, with the standard error over seeds. Seconds are for that
imagination, compilation included. Writes NAME.csv and NAME.png into --results.
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
from scipy import stats

from experiments.studies.students import score
from experiments.studies.teachers import opened, train_teacher
from experiments.tables import show, write
from tskd_jax.config import Config, finalize
from tskd_jax.data.selection import best_episodes
from tskd_jax.data.trajectories import Trajectories, concatenate
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation import simulator_check
from tskd_jax.evaluation.scores import summarize
from tskd_jax.methods.base import Teacher
from tskd_jax.teacher.imagination import imagine
from tskd_jax.training import seeds

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py:small")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the teacher is trained, or already is.")
STARTS = flags.DEFINE_integer("starts", 32, "Recorded states to imagine from.", 2)
SAMPLES = flags.DEFINE_integer("samples", 32, "Futures of each.", 2)
STEPS = flags.DEFINE_list("steps", ["5", "10", "20", "50"], "Network evaluations a plan.")
STRIDES = flags.DEFINE_list("strides", ["2", "4", "7"], "Steps taken of a plan.")
WARM_STARTS = flags.DEFINE_list("warm_starts", ["0.3", "0.5"], "Share of K to re-noise to.")
TRAJECTORIES = flags.DEFINE_integer("trajectories", 16, "Imagined for students; 0: no students.")
EPISODES = flags.DEFINE_integer("episodes", 10, "Evaluation episodes a seed.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/sampling_quality", "Folder.")


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to sample: what it changes in `config.sampling`, and the type of the computation."""

    name: str
    changes: dict[str, Any]
    dtype: str = "float32"


def ways(config: Config) -> list[Way]:
    """The reference first."""
    levels = config.trajectory_generator.diffusion_steps
    found = [
        Way("reference", {"sampler": "ancestral", "steps": levels, "start": 1.0}),
        Way("config", {}),
    ]
    for kind in ("ancestral", "ddim", "dpm++"):
        for steps in map(int, STEPS.value):
            # Few steps begin a little lower, as the presets have it (`sampling.start`).
            few = {"sampler": kind, "steps": steps, "start": min(config.sampling.start, 0.94)}
            found.append(Way(f"{kind}, {steps} steps", few))
    found.append(Way("bfloat16", {}, "bfloat16"))
    longest = config.trajectory_generator.horizon - config.trajectory_generator.context
    for stride in map(int, STRIDES.value):
        if stride <= longest:
            found.append(Way(f"stride {stride}", {"replan_every": stride}))
    for share in map(float, WARM_STARTS.value):
        found.append(Way(f"warm start {share:g}", {"warm_start": share}))
    return found


@dataclasses.dataclass(frozen=True)
class Setting:
    """All that the ways share."""

    config: Config
    task: Task
    recorded: Trajectories
    teacher: Teacher  # of one seed, a leading axis of one

    def imagine(self, way: Way, task: Task, starts: np.ndarray, seed: int) -> Trajectories:
        """Trajectories from those states, sampled in that way."""
        changes = {"replan_every": 1, "warm_start": 0.0} | way.changes
        model = self.teacher.trajectory_generator
        return imagine(
            model.replace(config=dataclasses.replace(model.config, dtype=way.dtype)),
            dataclasses.replace(self.config.sampling, **changes),
            task,
            self.teacher.inverse_dynamics,
            starts[None],
            jax.random.key(seed)[None],
        )[0]


def energy_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Unbiased energy distance of two samples of each of S distributions.

    Args:
      x, y: (S, n, d) and (S, m, d).

    Returns:
      (S,); 0 in expectation where the distributions are equal.
    """

    def mean_distance(a, b, same):
        distances = np.linalg.norm(a[:, :, None] - b[:, None], axis=-1)
        pairs = a.shape[1] * (b.shape[1] - same)  # a point is no partner of itself
        return distances.sum((1, 2)) / pairs

    return 2 * mean_distance(x, y, False) - mean_distance(x, x, True) - mean_distance(y, y, True)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95% bootstrap interval of the mean."""
    rng = np.random.default_rng(0)
    result = stats.bootstrap((values,), np.mean, method="percentile", rng=rng)
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def futures(setting: Setting, way: Way, starts: np.ndarray, span: int, seed: int):
    """(S, samples, m + 1) next state and reward after the first and after the last of the steps.

    Also the first steps as they are, for the simulator. Nothing ends in between.
    """
    endless = dataclasses.replace(
        setting.task, episode_limit=span, alive=lambda states: jnp.ones(states.shape[:-1], bool)
    )
    repeated = np.repeat(starts, SAMPLES.value, 0)
    made = setting.imagine(way, endless, repeated, seed)
    step = (setting.recorded.next_observations - setting.recorded.observations).std(0)
    reward = setting.recorded.rewards.std()
    tokens = np.concatenate(
        [
            made.next_observations / np.where(step > 0, step, 1.0),
            made.rewards[:, None] / (reward or 1.0),
        ],
        1,
    ).reshape(len(starts), SAMPLES.value, span, -1)
    firsts = made.truncate(np.ones(len(repeated), int))
    return tokens[:, :, 0], tokens[:, :, -1], firsts


def main(_argv) -> None:
    config, options = finalize(CONFIG.value)
    with opened(config, options, WORKDIR.value) as (exp, _):
        setting = Setting(config, exp.task, exp.recorded, train_teacher(exp))
    task, recorded = exp.task, exp.recorded

    rng = np.random.default_rng(0)
    starts = recorded.observations[rng.choice(recorded.size, STARTS.value, replace=False)]
    span = max([1, *(int(stride) for stride in STRIDES.value)])
    span = min(span, config.trajectory_generator.horizon - config.trajectory_generator.context)
    reference, *others = ways(config)
    expected = futures(setting, reference, starts, span, seed=1)

    best, _ = best_episodes(recorded, config.filter.share, task.episode_limit)
    filtered = recorded.select(np.sort(best))
    first_states = recorded.initial_observations
    chosen = rng.integers(len(first_states), size=TRAJECTORIES.value)
    table = []
    for way in (reference, *others):
        first, last, steps = futures(setting, way, starts, span, seed=2)
        row = {"sampling": way.name, "dtype": way.dtype}
        for name, one, other in (("first", first, expected[0]), ("last", last, expected[1])):
            distances = energy_distances(one, other)
            low, high = interval(distances)
            row |= {
                f"distance_{name}": float(distances.mean()),
                f"low_{name}": low,
                f"high_{name}": high,
            }
        if config.evaluation.simulator_check:
            row["simulator"] = simulator_check.check(
                task,
                seeds.of_seed(setting.teacher.inverse_dynamics, 0),
                steps,
                recorded.observations.std(0),
                config.evaluation.simulator_check,
            )["error"]
        if TRAJECTORIES.value:
            begin = time.perf_counter()
            imagined = setting.imagine(way, task, first_states[chosen], seed=3)
            row["seconds"] = time.perf_counter() - begin
            data = concatenate([filtered, imagined])
            summary = summarize(score(config, task, data, EPISODES.value))
            row |= {
                "imagined_mean_return": float(imagined.returns().mean()),
                "score": summary["mean"],
                "score_stderr": summary["stderr"],
            }
        table.append(row)
        show(row)
        path = write(table, RESULTS.value, NAME.value)  # after each row: they take minutes
    draw(table, path.with_name(f"{path.name}.png"))


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """Distance after the first step against the number of steps, a line for each sampler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    for kind in ("ancestral", "ddim", "dpm++"):
        rows = [row for row in table if row["sampling"].startswith(f"{kind}, ")]
        steps = [int(row["sampling"].split()[1]) for row in rows]
        middle = np.array([row["distance_first"] for row in rows])
        ends = np.array([[row["low_first"], row["high_first"]] for row in rows]).T
        axes.errorbar(steps, middle, np.abs(ends - middle[None]), marker="o", capsize=3, label=kind)
    axes.axhline(table[0]["distance_first"], color="gray", linestyle=":", label="other noise")
    axes.set(xscale="log", xlabel="network evaluations a plan", ylabel="energy distance")
    axes.set_yscale("symlog", linthresh=1e-2)
    axes.grid(alpha=0.4)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
