"""The figures of a run, drawn from its folder alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tskd_jax.data.checks import DatasetChecks
from tskd_jax.data.load import load_dataset
from tskd_jax.data.normalizer import moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.report.summary import unit
from tskd_jax.run import files

STEPS = 150  # shown of each trajectory
OWN_FILE = DatasetChecks(warn=lambda _line: None)  # a run's own files need no warnings
BLUE, GREY = "#2a6f97", "#a9b4c2"


class Palette(NamedTuple):
    """Colours in `bars`: of the subject, the other methods, error bars, and seeds."""

    subject: str = BLUE
    others: str = GREY
    errors: str = "k"
    seeds: str = "k"


PRINTED = Palette()


def draw(folder: Path, summary: dict[str, Any]) -> list[str]:
    """Draw the figures for which the folder has data; returns their file names."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    drawn = {"scores.png": _scores(summary)}
    imagined = first_dataset(folder, "imagined")
    best = folder / "best_recorded.hdf5"
    if imagined is not None and best.exists():
        recorded = load_dataset(best, OWN_FILE)
        one_step = bool((imagined.lengths == 1).all())
        figure = _steps(recorded, imagined) if one_step else _trajectories(recorded, imagined)
        drawn["trajectories.png"] = figure
    for name, figure in drawn.items():
        save(figure, folder / name)
    return list(drawn)


def first_dataset(folder: Path, name: str) -> Trajectories | None:
    """Load NAME.hdf5, or else the file of the first seed; None if there is neither."""
    paths = [folder / f"{name}.hdf5", *sorted(folder.glob(f"{name}/seed_*.hdf5"))]
    found = [path for path in paths if path.exists()]
    return load_dataset(found[0], OWN_FILE) if found else None


def _scores(summary: dict[str, Any]):
    from matplotlib import pyplot as plt

    scores = summary["scores"]
    figure, axes = plt.subplots(figsize=(7, 0.6 * len(scores) + 1.2), layout="constrained")
    titles = [summary["methods"][name]["title"] for name in scores]
    bars(axes, titles, list(scores.values()), list(scores).index(summary["subject"]))
    axes.set_xlabel(f"{unit(summary)} (bars: mean ± standard error; dots: seeds)")
    return figure


def bars(
    axes: Any,
    titles: Sequence[str],
    scores: Sequence[dict[str, Any]],
    subject: int,
    palette: Palette = PRINTED,
) -> None:
    """Plot each method's mean ± standard error and its seeds, the subject in another colour.

    Args:
      axes: Matplotlib axes.
      titles: the methods' titles, from top to bottom.
      scores: as from `evaluation.scores.summarize`.
      subject: index of the subject.
      palette: colours that suit the page.
    """
    rows = range(len(titles))
    means, errors = ([score[name] for score in scores] for name in ("mean", "stderr"))
    colors = [palette.subject if row == subject else palette.others for row in rows]
    axes.barh(rows, means, xerr=errors, color=colors, ecolor=palette.errors, height=0.65, capsize=3)
    for row, score in enumerate(scores):
        places = [row] * len(score["per_seed"])
        axes.plot(score["per_seed"], places, ".", color=palette.seeds, ms=4, alpha=0.6)
    axes.set_yticks(rows, titles)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def save(figure, path: Path) -> None:
    """Write a figure as PNG; an existing file is replaced only when the new one is complete."""
    from matplotlib import pyplot as plt

    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
    plt.close(figure)


def _steps(recorded: Trajectories, imagined: Trajectories):
    """Plot the best recorded episode: its actions, and those imagined in the same states."""
    from matplotlib import pyplot as plt

    best = recorded.select(np.array([recorded.returns().argmax()]))
    starts = imagined.observations[imagined.starts]
    times, rows = [], []
    for time, state in enumerate(best.observations[:STEPS]):
        same = np.flatnonzero((starts == state).all(1))
        if len(same):
            times.append(time)
            rows.append(imagined.starts[same[0]])
    shown = min(3, best.actions.shape[1])
    figure, axes = plt.subplots(
        shown, 1, figsize=(8, 1.7 * shown + 0.8), sharex=True, squeeze=False, layout="constrained"
    )
    for index, plot in enumerate(axes[:, 0]):
        plot.plot(best.actions[:STEPS, index], lw=0.9, color=GREY, label="recorded")
        plot.plot(times, imagined.actions[rows, index], ".", ms=4, color=BLUE, label="DDR-I")
        plot.set_ylabel(f"action {index}")
    axes[0, 0].legend(loc="upper right", ncols=2, frameon=False)
    axes[0, 0].set_title("the best recorded episode, and what DDR-I would do in its states")
    axes[-1, 0].set_xlabel("time step")
    return figure


def _trajectories(recorded: Trajectories, imagined: Trajectories):
    """Plot recorded beside imagined trajectories: two state dimensions, rewards, first steps."""
    from matplotlib import pyplot as plt

    figure, grid = plt.subplots(
        3, 2, figsize=(9, 6), sharex=True, sharey="row", layout="constrained"
    )
    second = min(1, recorded.observations.shape[1] - 1)  # a state may be a single number
    columns = [("recorded, best five", recorded), ("imagined, first five", imagined)]
    for column, (title, data) in enumerate(columns):
        grid[0, column].set_title(title)
        for episode in range(min(5, len(data.lengths))):
            start = data.starts[episode]
            rows = slice(start, start + min(STEPS, data.lengths[episode]))
            series = (*data.observations[rows][:, [0, second]].T, data.rewards[rows])
            for row, values in enumerate(series):
                grid[row, column].plot(values, lw=0.9, alpha=0.8)
        grid[2, column].set_xlabel("time step")
    for row, label in enumerate(("observation 0", f"observation {second}", "reward")):
        grid[row, 0].set_ylabel(label)
    return figure


def principal_plane(states: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Project (N, m) states onto their first two principal components, (N, 2).

    Dimensions are standardised first. `others` are projected onto the same plane.
    """
    mean, deviation = moments(states)
    deviation = np.where(deviation > 0, deviation, 1.0)
    scaled = [(one - mean) / deviation for one in (states, *others)]
    _, vectors = np.linalg.eigh(scaled[0].T @ scaled[0] / len(states))
    found = [one @ vectors[:, ::-1][:, :2] for one in scaled]
    return [np.pad(one, ((0, 0), (0, 2 - one.shape[1]))) for one in found]
