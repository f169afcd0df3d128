"""The figures of a comparison of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.evaluation.scores import summarize
from tskd_jax.evaluation.statistics import performance_profile, profile_bands
from tskd_jax.report.comparison import Comparison
from tskd_jax.report.comparison_table import ALL
from tskd_jax.report.figures import BLUE, bars, save

THRESHOLDS = 201  # of a performance profile


def draw(found: Comparison, table: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """Draw the figures of a comparison; returns their file names."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    with matplotlib.rc_context({"text.parse_math": False}):  # a `$` of a label begins no formula
        drawn = {"comparison.png": _scores(found, table)}
        if len(found.entries) > 1 and found.normalised:
            drawn["profile.png"] = _profile(found)
        for name, figure in drawn.items():
            save(figure, folder / name)
    return list(drawn)


def _scores(found: Comparison, table: Sequence[dict[str, Any]]):
    """Plot each dataset's scores, and beside them the subject's probability of improvement."""
    from matplotlib import pyplot as plt

    counts = [len(entries) for entries in found.entries.values()]
    over_all = [row for row in table if row["dataset"] == ALL]
    counts += [len(over_all)] if over_all else []
    figure, grid = plt.subplots(
        len(counts),
        2,
        figsize=(11, sum(0.45 * count + 1.1 for count in counts)),
        width_ratios=(3, 2),
        height_ratios=[0.45 * count + 1.1 for count in counts],
        layout="constrained",
        squeeze=False,
    )
    for (left, right), dataset in zip(grid, found.entries, strict=False):
        entries = found.entries[dataset]
        titles = [entry.name for entry in entries.values()]
        place = list(entries).index(found.subject)
        bars(left, titles, [summarize(entry.scores) for entry in entries.values()], place)
        left.set_ylim(len(entries) - 0.5, -0.5)  # aligned with the plot on the right
        left.set_title(dataset, loc="left", fontsize="medium")
        left.set_xlabel(f"{found.unit(dataset)} (bars: mean ± standard error; dots: seeds)")
        _improvements(right, [row for row in table if row["dataset"] == dataset])
    if over_all:
        left, right = grid[-1]
        if found.normalised:
            _middles(left, over_all, found.subject)
        else:
            left.set_axis_off()
        left.set_title(ALL, loc="left", fontsize="medium")
        _improvements(right, over_all)
    title = "how likely a seed of the blue one is better (95%)"
    grid[0, 1].set_title(title, loc="left", fontsize="medium")
    return figure


def _middles(axes: Any, rows: Sequence[dict[str, Any]], subject: str) -> None:
    """Plot interquartile means with their intervals."""
    for place, row in enumerate(rows):
        color = BLUE if row["method"] == subject else "black"
        if row["low"] != "":
            axes.plot([row["low"], row["high"]], [place, place], color=color, lw=2)
        axes.plot(row["interquartile_mean"], place, "o", color=color)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("interquartile mean of all seeds (95%)")
    axes.spines[["top", "right"]].set_visible(False)


def _improvements(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Plot the subject's probability of improvement over each method, in the order of the bars."""
    axes.axvline(0.5, color="grey", lw=0.8, ls=":")
    for place, row in enumerate(rows):
        if row["improvement"] == "":
            continue
        if row["improvement_low"] != "":
            ends = [row["improvement_low"], row["improvement_high"]]
            axes.plot(ends, [place, place], color=BLUE, lw=2)
        axes.plot(row["improvement"], place, "o", color=BLUE)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)


def _profile(found: Comparison):
    """Plot the share of seeds, over all datasets, above each score, with 95% bands."""
    from matplotlib import pyplot as plt

    scores = {
        key: [entries[key].scores.mean(1) for entries in found.entries.values()]
        for key in found.common
    }
    every = np.concatenate([one for own in scores.values() for one in own])
    thresholds = np.linspace(min(0.0, every.min()), every.max(), THRESHOLDS)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    titles = {key: entry.name for key, entry in next(iter(found.entries.values())).items()}
    for key, own in scores.items():
        width = 2.2 if key == found.subject else 1.2
        (line,) = axes.plot(thresholds, performance_profile(own, thresholds), lw=width)
        line.set_label(titles[key])
        axes.fill_between(thresholds, *profile_bands(own, thresholds), alpha=0.15, lw=0)
    axes.set_xlabel("normalised score τ")
    axes.set_ylabel(f"share of seeds on {len(found.entries)} datasets above τ")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
