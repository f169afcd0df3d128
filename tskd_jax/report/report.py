"""What a finished run leaves behind: summary, returns, students, dataset, pictures, table."""

import importlib.metadata
import platform
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tskd_jax import __version__
from tskd_jax.config import identity
from tskd_jax.data.formats import d4rl
from tskd_jax.data.trajectories import IMAGINED, Trajectories
from tskd_jax.evaluation.scores import difference, summarize
from tskd_jax.machine.types import Config
from tskd_jax.methods.method import Outcome
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.policy import save_policy
from tskd_jax.run.run import Run
from tskd_jax.training.seeds import pipeline_seeds

TITLES = {
    "bc": "BC",
    "filtered_bc": "filtered BC (best {share:.0%})",
    "tskd": "TSKD",
    "tskd_no_stitching": "TSKD without stitching",
    "tskd_no_imagination": "TSKD without imagination",
    "filter_alone": "TSKD without both",
    "teacher": "DDR-I as planner (teacher)",
}
PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "gymnasium", "mujoco")


def write(config: Config, outcome: Outcome, run: Run) -> dict[str, Any]:
    """Write all results into the run's folder and return the summary."""
    summary = summarize_run(config, outcome, run)
    with run.replacing("returns.npz") as path, path.open("wb") as file:
        np.savez_compressed(file, **outcome.returns)  # pyright: ignore[reportArgumentType]
    for method, policies in outcome.policies.items():
        for seed, policy in zip(config.seeds, policies, strict=True):
            with run.replacing(f"students/{method}/seed_{seed}.npz") as path:
                save_policy(path, policy)
    with run.replacing("student.npz") as path:
        save_policy(path, outcome.policies["tskd"][0])
    _write_data("stitched", outcome.student_data["tskd"], config, summary, run)
    _write_data("imagined", outcome.imagined, config, summary, run)
    draw(outcome, summary, run)
    run.write_json("summary.json", summary)  # the last: where it is, all is
    return summary


def _write_data(
    name: str, datasets: Sequence[Trajectories], config: Config, summary: dict, run: Run
) -> None:
    """NAME.hdf5, or where the whole pipeline has several seeds NAME/seed_N.hdf5 for each."""
    seeds = pipeline_seeds(config)
    for seed, data in zip(seeds, datasets, strict=True):
        if data.size:
            file = f"{name}.hdf5" if len(seeds) == 1 else f"{name}/seed_{seed}.hdf5"
            origin = f"TSKD from {summary['dataset']['name']}"
            with run.replacing(file) as path:
                d4rl.write(path, data, {"origin": origin, "seed": seed})


def summarize_run(config: Config, outcome: Outcome, run: Run) -> dict[str, Any]:
    """`summary.json`: dataset, scores, parameters, seconds, versions, and what each part did.

    With `results`, the checksum of each stage's result, it is what `--replay` needs. Of a pipeline
    with several seeds, numbers of trajectories and shares are means over them.
    """
    stages = run.manifest["stages"]
    dataset = {k: v for k, v in run.figures("dataset").items() if k != "seconds"}
    figures = {
        name: {key: value for key, value in about.items() if key != "seconds"}
        for name, about in stages.items()
        if name != "dataset"
    }
    stitched = run.figures("stitching.tskd")
    of_tskd = outcome.returns["tskd"]
    teacher = outcome.teachers[0]
    students = outcome.student_data["tskd"]
    return {
        "dataset": {"name": config.dataset.path or config.dataset.name} | dataset,
        "scores": {
            method: summarize(outcome.task.normalized_score(returns))
            for method, returns in outcome.returns.items()
        },
        # What TSKD adds to each of the others.
        "gains": {
            method: difference(*map(outcome.task.normalized_score, (of_tskd, returns)))
            for method, returns in outcome.returns.items()
            if method != "tskd"
        },
        "trajectories": {
            "recorded": len(outcome.recorded.lengths),
            "imagined": _mean([len(data.lengths) for data in outcome.imagined]),
            "stitched": stitched.get("trajectories_stitched", 0),
            "replaced": stitched.get("trajectories_replaced", 0),
            "kept_by_filter": _mean([len(data.lengths) for data in students]),
            "kept_imagined": _mean([_imagined_episodes(data) for data in students]),
        },
        "share_of_transitions_stitched": stitched.get("stitched_share", 0.0),
        "parameters": {
            "student": outcome.policies["tskd"][0].parameters,
            "trajectory_generator": count_parameters(teacher.trajectory_generator.params),
            "reward_generator": count_parameters(teacher.reward_generator.params),
        },
        "seconds": {name: about["seconds"] for name, about in stages.items()},
        "stages": figures,
        "results": {name: about["content"] for name, about in run.manifest["results"].items()},
        "versions": {"python": platform.python_version(), "tskd_jax": __version__}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "device": f"{jax.default_backend()}: {jax.devices()[0].device_kind} × {jax.device_count()}",
        "config": identity(config),
    }


def _mean(counts: Sequence[int]) -> int | float:
    return counts[0] if len(counts) == 1 else float(np.mean(counts))


def _imagined_episodes(data: Trajectories) -> int:
    return int(np.maximum.reduceat(data.source == IMAGINED, data.starts).sum())


def table(config: Config, summary: dict[str, Any]) -> str:
    """The scores as text, and what TSKD is above each of them."""
    episodes = f"{len(config.seeds)} seeds × {config.evaluation.episodes} episodes"
    seconds = summary["seconds"]
    lines = [
        "",
        f"{summary['dataset']['name']}: normalised score, mean ± standard error, {episodes}",
        "",
    ]
    titles = ("method", "score", "TSKD gains (95%)", "parameters", "seconds")
    lines.append("{:<32} {:>14}   {:>21}   {:>10}   {:>8}".format(*titles))
    for method, score in summary["scores"].items():
        title = TITLES[method].format(share=config.filter.share)
        if method == "teacher":
            title += f", {config.evaluation.teacher_episodes} episodes"
        # Of one seed there is no standard error.
        many = len(score["per_seed"]) > 1
        spread = f"± {score['stderr']:<4.1f}" if many else " " * 6
        gain = _gain(method, summary)
        size = summary["parameters"]["trajectory_generator" if method == "teacher" else "student"]
        spent = sum(s for name, s in seconds.items() if name.endswith(f".{method}"))
        lines.append(
            f"{title:<32} {score['mean']:>7.1f} {spread}   {gain:>21}   {size:>10,}   {spent:>8.0f}"
        )
    lines += ["", "seconds per stage: " + ", ".join(f"{g} {s:.0f}" for g, s in _by_group(seconds))]
    return "\n".join(lines)


def _gain(method: str, summary: dict[str, Any]) -> str:
    if method == "tskd":
        return ""
    if summary["scores"][method]["per_seed"] == summary["scores"]["tskd"]["per_seed"]:
        return "0 (same students)"
    gain = summary["gains"][method]
    ends = " ({:+.1f} … {:+.1f})".format(*gain["interval"]) if gain["interval"] else ""
    return f"{gain['mean']:+.1f}{ends}"


def _by_group(seconds: dict[str, float]) -> list[tuple[str, float]]:
    groups: dict[str, float] = {}
    for name, spent in seconds.items():
        group = name.partition(".")[0]
        groups[group] = groups.get(group, 0.0) + spent
    return list(groups.items())


def draw(outcome: Outcome, summary: dict[str, Any], run: Run) -> None:
    """`scores.png` and `trajectories.png`."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    scores = summary["scores"]
    figure, axes = plt.subplots(figsize=(7, 0.6 * len(scores) + 1.2), layout="constrained")
    names = [TITLES[m].format(share=summary["config"]["filter"]["share"]) for m in scores]
    means = [s["mean"] for s in scores.values()]
    errors = [s["stderr"] for s in scores.values()]
    colors = ["#2a6f97" if m == "tskd" else "#a9b4c2" for m in scores]
    axes.barh(names, means, xerr=errors, color=colors, height=0.65, capsize=3)
    for row, s in enumerate(scores.values()):
        axes.plot(s["per_seed"], [row] * len(s["per_seed"]), "k.", ms=4, alpha=0.6)
    axes.invert_yaxis()
    axes.set_xlabel("normalised score (bars: mean ± standard error; dots: seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, "scores.png", run)
    if outcome.imagined[0].size:
        branches = summary["config"]["imagination"]["starts"] != "episodes"
        picture = _branches(outcome) if branches else _trajectories(outcome)
        _save(picture, "trajectories.png", run)


def _save(figure, name: str, run: Run) -> None:
    from matplotlib import pyplot as plt

    with run.replacing(name) as path:
        figure.savefig(path, dpi=130, format="png")
    plt.close(figure)


def _branches(outcome: Outcome):
    """The best recorded episode: its actions, and those imagined in the same states."""
    from matplotlib import pyplot as plt

    steps = 150
    recorded, imagined = outcome.recorded, outcome.imagined[0]
    best = recorded.select(np.array([recorded.returns().argmax()]))
    where = {imagined.observations[row].tobytes(): row for row in imagined.starts}
    pairs = [(t, where.get(state.tobytes())) for t, state in enumerate(best.observations[:steps])]
    times, rows = np.array([pair for pair in pairs if pair[1] is not None], int).reshape(-1, 2).T
    shown = min(3, best.actions.shape[1])
    figure, axes = plt.subplots(
        shown, 1, figsize=(8, 1.7 * shown + 0.8), sharex=True, squeeze=False, layout="constrained"
    )
    for index, plot in enumerate(axes[:, 0]):
        plot.plot(best.actions[:steps, index], lw=0.9, color="#a9b4c2", label="recorded")
        plot.plot(times, imagined.actions[rows, index], ".", ms=4, color="#2a6f97", label="DDR-I")
        plot.set_ylabel(f"action {index}")
    axes[0, 0].legend(loc="upper right", ncols=2, frameon=False)
    axes[0, 0].set_title("the best recorded episode, and what DDR-I would do in its states")
    axes[-1, 0].set_xlabel("time step")
    return figure


def _trajectories(outcome: Outcome):
    """Imagined beside recorded: two state dimensions over the first steps, and rewards."""
    from matplotlib import pyplot as plt

    steps = 150
    returns = outcome.recorded.returns()
    best = outcome.recorded.select(np.argsort(-returns)[:5])
    figure, grid = plt.subplots(
        3, 2, figsize=(9, 6), sharex=True, sharey="row", layout="constrained"
    )
    columns: list[tuple[str, Trajectories]] = [
        ("recorded, best five", best),
        ("imagined, first five", outcome.imagined[0]),
    ]
    for column, (title, data) in enumerate(columns):
        grid[0, column].set_title(title)
        for episode in range(min(5, len(data.lengths))):
            start = data.starts[episode]
            rows = slice(start, start + min(steps, data.lengths[episode]))
            for row, series in enumerate(
                (data.observations[rows, 0], data.observations[rows, 1], data.rewards[rows])
            ):
                grid[row, column].plot(series, lw=0.9, alpha=0.8)
        grid[2, column].set_xlabel("time step")
    for row, label in enumerate(("observation 0", "observation 1", "reward")):
        grid[row, 0].set_ylabel(label)
    return figure
