"""A run: trains and evaluates every method of a config, and writes the results."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tskd_jax.cli.recorded import load_recorded
from tskd_jax.cli.students import contracts, write_student
from tskd_jax.config import Config, override
from tskd_jax.contract import Contract
from tskd_jax.data.formats import d4rl
from tskd_jax.data.trajectories import IMAGINED, RECORDED, Trajectories, describe
from tskd_jax.envs.tasks import Task
from tskd_jax.evaluation.fitted_q import fitted_q
from tskd_jax.evaluation.offline import action_errors, within_data
from tskd_jax.evaluation.scores import summarize
from tskd_jax.evaluation.stages import check_in_simulator, evaluate, evaluate_teacher, judge
from tskd_jax.machine import hosts, memory
from tskd_jax.methods import METHODS, Experiment, Outcome
from tskd_jax.methods.parts.models import train_world
from tskd_jax.models.contest import lowest_rate
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.policy import Policy
from tskd_jax.report import figures, html, material, summary, table
from tskd_jax.run.run import Run
from tskd_jax.teacher import diffuser, reward_generator, trajectory_generator

BEST_SHOWN = 5  # recorded episodes that are stored for the figures

Found = dict[str, dict[str, np.ndarray]]
"""File of results -> method -> array."""


def compare(config: Config, run: Run) -> dict[str, Any] | None:
    """Run all methods and write the report; returns the summary, in the first process only."""
    recorded, held_out, task = load_recorded(config, run)
    report_memory(config, task, run)
    found: Found = {file: {} for file in summary.FILES}
    returns, judged = found[summary.RETURNS], found[summary.JUDGED]
    for name, title, method, varied in comparisons(config):
        exp = Experiment(name, varied, task, recorded, run)
        begun = len(run.used)
        outcome = METHODS[method].train(exp, varied.own[method])
        if task.simulated:
            returns[name] = exp.stage(
                *(evaluate, config.evaluation.episodes, outcome.policies, task, config.seeds),
                name=f"evaluation.{name}",
            )
        if students := _students(outcome):
            _judge_offline(exp, config, students, held_out, found)
        contract = contracts(exp, run, students, config.seeds, returns.get(name), judged.get(name))
        _note(name, title, config, outcome, contract, run, begun)
        score = summarize(task.normalized_score(returns.get(name, judged.get(name))))
        run.report(f"{title:<36} {table.score_text(score)}")
        if name == config.methods[-1]:
            left = found[summary.LEFT].get(name)
            _deploy(config, students, contract, judged.get(name), left, run)
            returns |= _examine(exp, config, outcome, run)
            _write_data(config, outcome, recorded, run)
    written = _write_report(found, run) if hosts.is_first() else None
    hosts.meet()  # writing may take the first process minutes
    return written


def _students(outcome: Outcome) -> list[Policy]:
    """The policies, if all of them are students (which need no simulator and fit a file); or []."""
    students = [one for one in outcome.policies if isinstance(one, Policy)]
    return students if len(students) == len(outcome.policies) else []


def _judge_offline(
    exp: Experiment,
    config: Config,
    students: list[Policy],
    held_out: Trajectories | None,
    found: Found,
) -> None:
    """Evaluate a method's students without a simulator, in the ways that the config enables."""
    name, recorded = exp.name, exp.recorded
    if config.referee.episodes:
        found[summary.JUDGED][name], found[summary.LEFT][name] = exp.stage(
            *(judge, config.referee.episodes, train_world(exp), students, exp.task),
            *(recorded.initial_observations, lowest_rate(recorded.returns(), recorded.lengths)),
            name=f"referee.{name}",
        )
    if config.fitted_q.enabled:
        found[summary.FITTED_Q][name] = exp.stage(
            *(fitted_q, config.fitted_q, recorded, students),
            name=f"fitted_q.{name}",
        )
    if held_out is not None:
        found[summary.ERRORS][name] = exp.stage(
            *(action_errors, students, held_out), name=f"held_out.{name}"
        )
    if config.evaluation.visited_states:
        found[summary.WITHIN][name] = exp.stage(
            *(within_data, config.evaluation.visited_states, train_world(exp)),
            *(students, exp.task, recorded),
            name=f"within_data.{name}",
        )


def comparisons(config: Config) -> list[tuple[str, str, str, Config]]:
    """(name, title, method, its config) of all methods and variants of a run, in order."""
    found = []
    for name in config.methods:
        method = METHODS[name]
        title = method.title_for(config.own[name])
        if config.ablations:
            for suffix, (variant_title, changes) in method.variants.items():
                varied = override(config, changes)
                if varied != config:
                    found.append((f"{name}_{suffix}", variant_title, name, varied))
        found.append((name, title, name, config))
    return found


def report_memory(config: Config, task: Task, run: Run) -> None:
    """If the pipeline has several seeds, estimate how many fit into memory side by side.

    How many really fit is known only when a training's program is compiled (`training.loop.fit`).
    """
    seeds, (free, _) = len(config.pipeline_seeds), memory.of_device()
    if seeds == 1 or not any(METHODS[name].imagines_from for name in config.methods):
        return
    size = task.state_size
    for name, section, token in (
        (
            "trajectory_generator",
            config.trajectory_generator,
            trajectory_generator.token_size(config.trajectory_generator, size),
        ),
        (
            "reward_generator",
            config.reward_generator,
            reward_generator.token_size(config.reward_generator, size),
        ),
    ):
        each = diffuser.training_bytes(section, token)
        groups = f", at most {max(1, free // each)} at a time" if seeds * each > free else ""
        run.report(
            f"{name}: {seeds} seeds take at least {memory.readable(seeds * each)} of memory, "
            f"{memory.readable(free)} are free{groups}"
        )


def _note(
    name: str,
    title: str,
    config: Config,
    outcome: Outcome,
    contract: list[Contract],
    run: Run,
    begun: int,
) -> None:
    """Write a method's students, and record its stages, parameters and data in the manifest."""
    stages, used = run.manifest["stages"], list(dict.fromkeys(run.used[begun:]))
    # The last student stage in use: trial students of a choice, or other methods', come before.
    student = next(key for key in reversed(run.used) if stages[key]["name"].startswith("student."))
    # In the simulator, or without one in the learned world.
    judging = [key for key in used if stages[key]["name"].startswith(("evaluation.", "referee."))]
    seconds = stages[student]["seconds"] + stages[judging[0]]["seconds"]
    if hosts.is_first():
        for one, policy in zip(contract, _students(outcome), strict=False):
            write_student(f"students/{name}/seed_{one.seed}.npz", policy, one, run)
    run.record(
        "methods",
        name,
        {
            "title": title,
            "stages": used,
            "student": student,
            "parameters": outcome.policies[0].parameters,
            "seconds": seconds,
            "data": [
                describe(data)
                | {
                    "imagined_transitions": int((data.source == IMAGINED).sum()),
                    "lowest_return": float(data.returns().min()),
                }
                for data in outcome.data
            ],
        },
    )


def _deploy(
    config: Config,
    students: list[Policy],
    contract: list[Contract],
    judged: np.ndarray | None,
    left: np.ndarray | None,
    run: Run,
) -> None:
    """Write `student.npz`, the student to deploy: the best in the learned world, else the first.

    An episode that left the region that the world knows counts as the worst of all: if rewards are
    negative, ending early must not pay. A method without students writes none.
    """
    if not students:
        return
    place = 0
    if judged is not None and left is not None:
        place = int(np.where(left, judged.min(), judged).mean(1).argmax())
    if hosts.is_first():
        write_student("student.npz", students[place], contract[place], run)
    run.record("notes", "student", {"seed": config.seeds[place], "chosen": judged is not None})


def _examine(exp: Experiment, config: Config, outcome: Outcome, run: Run) -> dict[str, np.ndarray]:
    """Check imagination in the simulator, and evaluate the teacher itself if requested."""
    teachers, episodes = outcome.teachers, config.evaluation.teacher_episodes
    if not teachers or not exp.task.simulated:
        if episodes:
            what = "no simulator for" if teachers else "no teacher that could play"
            run.report(f"warning: {exp.name} has {what} {episodes} episodes of the teacher")
        return {}
    known = exp.task.position_size is not None
    if known and config.evaluation.simulator_check and outcome.imagined and outcome.accepted:
        exp.stage(
            *(check_in_simulator, config.evaluation.simulator_check, exp.task),
            *(teachers[0].inverse_dynamics, exp.recorded, outcome.imagined, outcome.accepted),
        )
    if not episodes:
        return {}
    returns = {}
    for index, teacher in enumerate(teachers):
        number, sampling = index + 1, config.teacher_sampling(index)
        name = f"{summary.TEACHER}_{number}" if index else summary.TEACHER
        returns[name] = exp.stage(
            *(evaluate_teacher, episodes, sampling, teacher.trajectory_generator),
            *(teacher.inverse_dynamics, exp.task, exp.seeds),
            name=f"evaluation.{name}",
        )
        which = f"teacher {number}" if len(teachers) > 1 else "teacher"
        networks = count_parameters(teacher.trajectory_generator.params)
        run.record(
            "methods",
            name,
            {
                "title": f"DDR-I as planner ({which}), {episodes} episodes",
                "stages": [run.used[-1]],
                "parameters": networks // len(exp.seeds),
                "seconds": run.manifest["stages"][run.used[-1]]["seconds"],
            },
        )
    return returns


def _write_data(config: Config, outcome: Outcome, recorded: Trajectories, run: Run) -> None:
    """Write the subject's data, what DDR-I imagined for it, and the best recorded episodes."""
    if not hosts.is_first():
        return
    with run.replacing(material.FILE) as path, path.open("wb") as file:
        kept: Any = material.collect(recorded, outcome.data[0])
        np.savez_compressed(file, **kept)
    best = np.argsort(-recorded.returns(), kind="stable")[:BEST_SHOWN]
    _write("best_recorded", [recorded.select(best)], config, run)
    made = any((data.source != RECORDED).any() for data in outcome.data)
    if outcome.teachers or made:
        _write("stitched", outcome.data, config, run)
    if outcome.teachers:
        _write("imagined", outcome.accepted or [], config, run)


def _write(name: str, datasets: Sequence[Trajectories], config: Config, run: Run) -> None:
    """Write NAME.hdf5, or NAME/seed_N.hdf5 for each of several datasets."""
    source = config.dataset.source
    seeds = config.pipeline_seeds if len(datasets) > 1 else (config.pipeline_seeds[0],)
    for seed, data in zip(seeds, datasets, strict=False):
        if data.size:
            file = f"{name}.hdf5" if len(datasets) == 1 else f"{name}/seed_{seed}.hdf5"
            with run.replacing(file) as path:
                d4rl.write(path, data, {"origin": f"tskd_jax, from {source}", "seed": seed})


def _write_report(found: Found, run: Run) -> dict[str, Any]:
    """Write results and summary, then figures and report, whose failure must not lose results."""
    for name, arrays in found.items():
        if arrays:
            with run.replacing(name) as path, path.open("wb") as file:
                np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    made = summary.make(run.path)
    run.write_json("summary.json", made)  # once it exists, all results are saved
    run.publish({f"score/{name}": score["mean"] for name, score in made["scores"].items()})
    try:
        figures.draw(run.path, made)
        html.write(run.path, made)
    except Exception as error:
        run.report(
            f"warning: no pictures ({type(error).__name__}: {error}); "
            f"`tskd-jax report {run.path}` makes them and the report again"
        )
    return made
