"""The paper's Table 2: what decisions cost, the teacher's, a transformer's and the student's.

    python -m experiments.paper.table2_planning_time [--scale=paper] [--decisions=200]
        [--budget=60] [--name=NAME]

Times one decision, and one decision for each of 10 episodes in lockstep (from observation to
action, with what the host does), of networks as a run on hopper builds them at that preset, with
fresh weights: time does not depend on them. DDR-I plans with the paper's 200 ancestral steps and
with fewer (`--few`), Decision Diffuser with its own. The student acts in each of its forms, with
one thread but for JAX. All are measured by turns in one process, on this machine alone.

A plan that would take more than its part of `--budget` seconds is timed on fewer denoising steps,
all of which cost the same, and scaled: `steps_timed` says how many. `milliseconds` is the median,
`low` and `high` the ends of the median's 95% interval by ranks; `share_of_teacher` is the median's
share of DDR-I's with all steps. `seconds_N` are N steps of 10 episodes: N times the decision in
lockstep. Prints a table, and writes NAME.csv, NAME.md, NAME.png and NAME.svg in --results.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags

from experiments.benchmarks.forms import forms
from experiments.drawing import save
from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.config import Config, finalize, make_config
from tskd_jax.costs import fresh
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.diffusion.sampler import KINDS
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import Act
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.presets import PRESETS
from tskd_jax.report.published import planning_seconds
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.planner import PlanningActor
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds

SCALE = flags.DEFINE_enum("scale", "paper", list(PRESETS), "Preset of the networks.")
FEW = flags.DEFINE_list("few", ["ddim:10", "dpm++:5"], "KIND:STEPS of DDR-I, beside ancestral:200.")
DECISIONS = flags.DEFINE_integer("decisions", 200, "Timed of each.", 2)
BUDGET = flags.DEFINE_float("budget", 60.0, "Seconds for one kind of plan, both batches.", 0.0)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the scale.")
RESULTS = flags.DEFINE_string("results", "experiments/results/table2", "Folder.")

EPISODES = 10  # of the paper
LENGTHS = (200, 400, 600, 800, 1000)  # of the paper, steps
FEWEST = 3  # decisions that are timed of the slowest
ROUNDS = 5  # turns that everything takes
TEACHER = "DDR-I"


@dataclasses.dataclass(frozen=True)
class Decider:
    """Something that acts, and is timed.

    Attributes:
      method: of the paper's table, or "" where it has none.
      title: for the table.
      parameters: numbers in the networks that decide.
      act: (E, m) observations -> actions; one call is one decision of E episodes.
      steps: network evaluations of a plan, and those that are timed; 1 of what does not plan.
    """

    method: str
    title: str
    parameters: int
    act: Callable[[np.ndarray], Any]
    steps: int = 1
    steps_timed: int = 1


def main(_request: Request) -> int:
    """Build, time, print and write."""
    config, _options = finalize(make_config("hopper", SCALE.value))
    task, recorded = get_task("hopper"), fresh.some_episodes()
    found = [*teachers(config, recorded, task), *others(config, recorded, task)]
    rows = timed(found, recorded.observations)
    for row in rows:
        show(row)
    path = write(rows, RESULTS.value, NAME.value or SCALE.value)
    text = markdown(rows, beside_the_papers=SCALE.value == "paper")
    path.with_name(f"{path.name}.md").write_text(text)
    draw(rows, path)
    return 0


def teachers(config: Config, recorded: Trajectories, task: Task) -> list[Decider]:
    """DDR-I with each sampler, and Decision Diffuser."""
    keys = jax.random.key(0)[None]
    inverse = seeds.of_seed(fresh.fresh_inverse_dynamics(config, recorded, task, keys), 0)
    own = config.own["decision_diffuser"]
    without_rewards = dataclasses.replace(config, trajectory_generator=own.generator())
    found = []
    model = seeds.of_seed(fresh.fresh_trajectory_generator(without_rewards, recorded, keys), 0)
    sampling = own.sampling()
    title = f"Decision Diffuser, {sampling.steps} {sampling.sampler} steps"
    found.append(planning("decision_diffuser", title, model, sampling, inverse))
    model = seeds.of_seed(fresh.fresh_trajectory_generator(config, recorded, keys), 0)
    for name in (f"ancestral:{config.trajectory_generator.diffusion_steps}", *FEW.value):
        kind, _, steps = name.partition(":")
        if kind not in KINDS or not steps.isdecimal() or not int(steps):
            raise ConfigError(f"--few={name}: one of {', '.join(KINDS)} is meant, as ddim:10")
        changed = dataclasses.replace(
            config.sampling, sampler=kind, steps=int(steps), warm_start=0.0
        )
        found.append(planning("", f"{TEACHER}, {steps} {kind} steps", model, changed, inverse))
    return found


def planning(
    method: str, title: str, model: Diffuser, sampling: SamplingConfig, inverse: InverseDynamics
) -> Decider:
    """A planner, with as many denoising steps as the budget allows."""
    # Few steps begin where the last of all begins: a plan of any number can be timed.
    sampling = dataclasses.replace(sampling, start=1.0)
    fewest = dataclasses.replace(sampling, steps=min(2, sampling.steps))
    observations = np.zeros((EPISODES, model.states.low.shape[-1]), np.float32)

    def actor(chosen: SamplingConfig) -> Callable[[np.ndarray], Any]:
        return middle_of_episode(PlanningActor(model, inverse, jax.random.key(0), chosen).start())

    probe = actor(fewest)
    probe(observations)
    begin = time.perf_counter()
    probe(observations)
    each = (time.perf_counter() - begin) / fewest.steps
    # The batch of 10 takes nearly all of it; one more call warms up.
    fitting = int(BUDGET.value / (each * 2 * (FEWEST + 1)))
    steps = int(np.clip(fitting, fewest.steps, sampling.steps))
    act = probe if steps == fewest.steps else actor(dataclasses.replace(sampling, steps=steps))
    count = count_parameters((model.params, inverse.params))
    return Decider(method, title, count, act, sampling.steps, steps)


def middle_of_episode(act: Act) -> Callable[[np.ndarray], Any]:
    """Decisions in the middle of an episode; each batch has episodes of its own."""
    begun: set[int] = set()

    def decide(observations: np.ndarray) -> Any:
        episodes = len(observations)
        if episodes not in begun:  # another batch begins another episode
            begun.clear()
            begun.add(episodes)
            act(observations, 0, np.zeros(episodes))
        return act(observations, 500, np.zeros(episodes))

    return decide


def others(config: Config, recorded: Trajectories, task: Task) -> list[Decider]:
    """Decision Transformer, and the student in its forms."""
    transformer = fresh.fresh_decision_transformer(config, recorded, task, jax.random.key(0))
    found = [
        Decider(
            "decision_transformer",
            "Decision Transformer",
            transformer.parameters,
            middle_of_episode(transformer.start()),
        )
    ]
    sizes = (task.state_size, *config.student.hidden, task.action_size)
    policy = fresh.random_student(sizes, task.bounds)
    titles = {"jax": "JAX", "numpy": "NumPy", "onnx": "ONNX Runtime", "tflite": "TFLite"}
    titles |= {"c": "C", "c, int8": "C, 8 bits"}
    for name, _, act in forms(policy):
        if name in titles:
            method = "tskd" if name == "numpy" else ""
            found.append(Decider(method, f"student, {titles[name]}", policy.parameters, act))
    return found


def timed(found: list[Decider], observations: np.ndarray) -> list[dict[str, Any]]:
    """A row for each, measured by turns: what else the machine does, all of them see."""
    spent: dict[tuple[int, int], list[float]] = {}
    for decider in found:
        for episodes in (1, EPISODES):
            decider.act(observations[:episodes].astype(np.float32))
    for turn in range(ROUNDS):
        for place, decider in enumerate(found):
            for episodes in (1, EPISODES):
                batch = np.ascontiguousarray(observations[:episodes], np.float32)
                times = spent.setdefault((place, episodes), [])
                decider.act(batch)
                allowed = BUDGET.value / 2 / ROUNDS
                begun = time.perf_counter()
                for _ in range(math.ceil(DECISIONS.value / ROUNDS)):
                    begin = time.perf_counter()
                    jax.block_until_ready(decider.act(batch))
                    end = time.perf_counter()
                    times.append((end - begin) * decider.steps / decider.steps_timed)
                    if end - begun > allowed and len(times) > turn * FEWEST / ROUNDS:
                        break
    teacher = next(place for place, one in enumerate(found) if one.title.startswith(TEACHER))
    rows = []
    for place, decider in enumerate(found):
        one, all_ = spent[place, 1], spent[place, EPISODES]
        (low, high), lockstep = median_interval(one), float(np.median(all_))
        row = {
            "method": decider.title,
            "published_as": decider.method,
            "parameters": decider.parameters,
            "network_evaluations": decider.steps,
            "steps_timed": decider.steps_timed,
            "milliseconds": 1000 * float(np.median(one)),
            "low": 1000 * low,
            "high": 1000 * high,
            "decisions": len(one),
            "share_of_teacher": float(np.median(one) / np.median(spent[teacher, 1])),
            "milliseconds_in_lockstep": 1000 * lockstep,
        }
        rows.append(row | {f"seconds_{length}": length * lockstep for length in LENGTHS})
    return rows


def median_interval(times: list[float]) -> tuple[float, float]:
    """The ranks between which the median lies with 95%, by the binomial's normal approximation."""
    ordered, half = sorted(times), 0.98 * math.sqrt(len(times))
    low = max(0, math.floor(len(ordered) / 2 - half))
    return ordered[low], ordered[min(len(ordered) - 1, math.ceil(len(ordered) / 2 + half))]


def markdown(rows: list[dict[str, Any]], *, beside_the_papers: bool) -> str:
    """The table as in the paper, with a decision before it, and perhaps the paper's own seconds."""
    lengths = " | ".join(f"{length} steps" for length in LENGTHS)
    lines = [
        f"| | parameters | one decision, ms (95%) | of the teacher's | {lengths} |",
        "|---" * (len(LENGTHS) + 4) + "|",
    ]
    for row in rows:
        published = planning_seconds(row["published_as"]) if beside_the_papers else {}
        cells = []
        for length in LENGTHS:
            theirs = f" ({published[length]:.2f})" if published else ""
            cells.append(f"{figure(row[f'seconds_{length}'])}{theirs}")
        middle, low, high = (figure(row[name]) for name in ("milliseconds", "low", "high"))
        decision = f"{middle} ({low} … {high})"
        start = f"{row['method']} | {row['parameters']:,} | {decision}"
        lines.append(
            f"| {start} | {figure(100 * row['share_of_teacher'])}% | {' | '.join(cells)} |"
        )
    about = f"Seconds of {EPISODES} episodes in lockstep"
    theirs = "; in brackets the paper's own figure, of another machine" if beside_the_papers else ""
    return "\n".join([*lines, "", f"{about}{theirs}.", ""])


def figure(value: float) -> str:
    """Three figures, or all before the point; never as a power of ten."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}".rstrip("0").rstrip(".")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds of a decision, with what 50 Hz allow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(figsize=(7.2, 0.36 * len(rows) + 1.2), layout="constrained")
    names = [row["method"] for row in rows][::-1]
    values = [row["milliseconds"] for row in rows][::-1]
    axes.barh(names, values, color="#4c72b0", left=1e-3)
    axes.axvline(20, color="gray", linestyle="--", linewidth=1)
    axes.text(20, -0.9, " 50 Hz", color="gray", va="center", fontsize=8)
    axes.set(xscale="log", xlabel="milliseconds of one decision", ylim=(-1.4, len(rows) - 0.4))
    save(drawn, path)


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
