"""The figures of a run's HTML report, each with a description in words.

Colours have a medium tone, so that they are visible on light and dark pages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.report import svg
from tskd_jax.report.figures import Palette, bars, principal_plane
from tskd_jax.report.summary import unit
from tskd_jax.report.table import by_group

BLUE, ORANGE, GREY, GREEN = "#3b82c4", "#d9822b", "#8b95a5", "#3f9d6b"
SHOWN = 3000  # points in a projection
LEAST_SHARE = 0.01  # of the total time; stages below it are shown as one bar

Arrays = dict[str, np.ndarray]
Curves = dict[str, list[tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Chart:
    """A figure as SVG.

    Attributes:
      name: unique in the page.
      svg: the `svg` element.
      caption: the text below it.
    """

    name: str
    svg: str
    caption: str


def _chart(
    name: str,
    size: tuple[float, float],
    draw: Callable[[Any], None],
    alt: str,
    caption: str,
    grid: tuple[int, int] = (1, 1),
    **sharing: Any,
) -> Chart:
    import matplotlib

    matplotlib.use("Agg", force=True)
    from matplotlib import pyplot as plt

    with matplotlib.rc_context(svg.STYLE):
        figure, axes = plt.subplots(
            *grid, figsize=size, layout="constrained", squeeze=False, **sharing
        )
        draw(axes)
    return Chart(name, svg.to_svg(figure, name, alt), caption)


def scores(summary: dict[str, Any]) -> Chart:
    """Plot each method's mean ± standard error, and its seeds."""
    found, subject = summary["scores"], list(summary["scores"]).index(summary["subject"])
    titles = [summary["methods"][name]["title"] for name in found]

    def draw(axes):
        palette = Palette(BLUE, GREY, svg.INK, ORANGE)
        bars(axes[0, 0], titles, list(found.values()), subject, palette)
        axes[0, 0].set_xlabel(unit(summary))

    words = ", ".join(
        f"{title} {score['mean']:.1f} ± {score['stderr']:.1f}"
        for title, score in zip(titles, found.values(), strict=True)
    )
    return _chart(
        *("scores", (7, 0.42 * len(found) + 0.9), draw, f"Scores: {words}."),
        "Bars: mean over seeds ± standard error. Dots: seeds.",
    )


def time(summary: dict[str, Any]) -> Chart:
    """Plot the time spent on each group of stages."""
    groups = sorted(by_group(summary["seconds"]), key=lambda group: -group[1])
    whole = sum(spent for _, spent in groups) or 1.0
    shown = [group for group in groups if group[1] >= LEAST_SHARE * whole]
    if rest := [group for group in groups if group[1] < LEAST_SHARE * whole]:
        shown.append((f"{len(rest)} others", sum(spent for _, spent in rest)))

    def draw(axes):
        plot = axes[0, 0]
        plot.barh([name for name, _ in shown], [spent for _, spent in shown], color=BLUE)
        plot.invert_yaxis()
        plot.set_xlabel("seconds")

    words = ", ".join(f"{name} {spent:.0f} s" for name, spent in shown)
    return _chart(
        *("time", (7, 0.28 * len(shown) + 0.8), draw, f"Seconds of each stage: {words}."),
        f"{whole:.0f} seconds in all, of stages that this run or another one has made.",
    )


def losses(curves: Curves) -> Chart:
    """Plot the loss of every training over its updates, one panel per group.

    Args:
      curves: group -> (updates, loss) of each training.
    """
    from matplotlib.ticker import LogLocator

    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)

    def draw(axes):
        for plot, (name, lines) in zip(axes.flat, curves.items(), strict=False):
            for steps, loss in lines:
                plot.plot(steps, loss, lw=0.9, color=BLUE, alpha=max(0.35, 1 / len(lines)))
            plot.set_title(name)
            if all((loss > 0).all() for _, loss in lines):
                plot.set_yscale("log")
                plot.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                plot.yaxis.set_major_formatter("{x:g}")
                plot.yaxis.set_minor_formatter("")
            plot.tick_params(labelsize=8)
        for plot in axes.flat[len(curves) :]:
            plot.set_visible(False)

    ends = ", ".join(
        f"{name} {lines[-1][1][0]:.3g} to {lines[-1][1][-1]:.3g}" for name, lines in curves.items()
    )
    return _chart(
        *("losses", (7, 1.55 * rows + 0.4), draw, f"Loss from first to last update: {ends}."),
        "Loss over updates; several trainings of a part are several lines.",
        (rows, columns),
    )


def imagination(kept: Arrays, imagined: Trajectories) -> Chart:
    """Compare imagined and recorded data: states, returns (or rewards of single steps), lengths."""
    one_step = bool((imagined.lengths == 1).all())
    rows = np.random.default_rng(0).permutation(imagined.size)[:SHOWN]
    recorded, made = principal_plane(kept["states"], imagined.observations[np.sort(rows)])
    known, new = (
        (kept["rewards"], imagined.rewards) if one_step else (kept["returns"], imagined.returns())
    )
    what = "reward of a step" if one_step else "return"

    def draw(axes):
        states, values, lengths = axes[0]
        states.scatter(*recorded.T, s=2, color=GREY, alpha=0.5, rasterized=True, label="recorded")
        states.scatter(*made.T, s=2, color=ORANGE, alpha=0.5, rasterized=True, label="imagined")
        states.set(xlabel="states, first principal component", ylabel="second")
        states.legend(markerscale=4, fontsize=8)
        _two_histograms(values, known, new)
        values.set(xlabel=what, ylabel="share")
        _two_histograms(lengths, kept["lengths"], imagined.lengths)
        lengths.set(xlabel="steps", ylabel="share")

    return _chart(
        *("imagination", (7.5, 2.7), draw),
        f"Imagined beside recorded: mean {what} {np.mean(new):.3g} against {np.mean(known):.3g}, "
        f"mean length {imagined.lengths.mean():.0f} against {kept['lengths'].mean():.0f} steps.",
        f"Grey: recorded. Orange: {len(imagined.lengths):,} imagined trajectories.",
        (1, 3),
    )


def _two_histograms(plot: Any, known: np.ndarray, new: np.ndarray) -> None:
    low, high = (float(end) for end in (min(known.min(), new.min()), max(known.max(), new.max())))
    edges = np.linspace(low, high if high > low else low + 1, 31)
    for values, color in ((known, GREY), (new, ORANGE)):
        weights = np.full(len(values), 1 / len(values))
        plot.hist(values, edges, weights=weights, color=color, alpha=0.6)


def kept(kept: Arrays) -> Chart:
    """Plot which recorded episodes the students imitate, by return."""
    returns, weights = kept["returns"], kept["lengths"].astype(float)
    low, high = float(returns.min()), float(returns.max())
    edges = np.linspace(low, high if high > low else low + 1, 41)

    def draw(axes):
        plot = axes[0, 0]
        plot.hist(returns, edges, weights=weights, color=GREY, alpha=0.6, label="recorded")
        imitated = weights * kept["kept"]
        plot.hist(returns, edges, weights=imitated, color=BLUE, alpha=0.9, label="imitated")
        plot.set(xlabel="return of the episode", ylabel="transitions")
        plot.legend(fontsize=8)

    share = float((weights * kept["kept"]).sum() / weights.sum())
    episodes = int((kept["kept"] > 0).sum())
    words = (
        f"{share:.0%} of the recorded transitions, of {episodes:,} of {len(returns):,} episodes, "
        "are in the data of the last method's students."
    )
    return _chart("kept", (7, 2.4), draw, words, words)


def moves(counts: dict[str, int], edges: int) -> Chart:
    """Plot how many stitches lead from each quarter of returns to each other.

    Args:
      counts: "FROM to TO" -> number of stitches; quarters of the episodes by return, 1 the lowest.
      edges: number of different stitches.
    """
    table = np.array([[counts[f"{one} to {two}"] for two in range(1, 5)] for one in range(1, 5)])

    def draw(axes):
        plot = axes[0, 0]
        plot.imshow(table, cmap="Blues", origin="lower", vmin=0)
        for (row, column), count in np.ndenumerate(table):
            ink = "white" if count > table.max() / 2 else "#1c2430"
            plot.text(column, row, f"{count:,.0f}", ha="center", va="center", fontsize=9, color=ink)
        names = ["lowest", "second", "third", "highest"]
        plot.set_xticks(range(4), names)
        plot.set_yticks(range(4), names)
        plot.set(xlabel="to the quarter", ylabel="from the quarter")

    up = float(np.triu(table, 1).sum() / max(table.sum(), 1))
    words = f"{edges:,.0f} different stitches, {up:.0%} of them to a higher quarter of returns."
    return _chart("moves", (4, 3), draw, words, words + " Quarters of the episodes by return.")


def examples(kept: Arrays) -> Chart:
    """Plot a few stitched trajectories, and the recorded ones that they started from."""
    numbers = [i for i in range(len(kept)) if f"before_{i}" in kept]
    labels = ("observation 0", "observation 1", "reward")

    def draw(axes):
        for column, number in enumerate(numbers):
            before, after = kept[f"before_{number}"], kept[f"after_{number}"]
            stitches = np.flatnonzero(kept[f"stitched_{number}"])
            for row, label in enumerate(labels):
                plot = axes[row, column]
                plot.plot(before[:, row], lw=0.9, color=GREY)
                plot.plot(after[:, row], lw=0.9, color=GREEN)
                plot.plot(stitches, after[stitches, row], "o", ms=3, color=ORANGE)
                if not column:
                    plot.set_ylabel(label)
            axes[-1, column].set_xlabel("time step")

    gains = ", ".join(
        f"{kept[f'before_{i}'][:, 2].sum():.4g} to {kept[f'after_{i}'][:, 2].sum():.4g}"
        for i in numbers
    )
    return _chart(
        *("examples", (7.5, 4), draw, f"Rewards of the steps shown, before and after: {gains}."),
        "Grey: the recorded trajectory. Green: stitched. Dots: stitches. The first steps of those "
        "of highest return.",
        (3, len(numbers)),
        sharex=True,
    )
