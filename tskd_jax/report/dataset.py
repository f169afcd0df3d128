"""The one-page description of a dataset, and its figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.report.figures import BLUE, principal_plane, save

SHOWN_STATES = 20_000  # in the projection
SHOWN_EPISODES, SHOWN_STEPS = 5, 300


def page(found: dict[str, Any]) -> str:
    """Format the page that `tskd-jax data` prints.

    Args:
      found: the result of `tskd_jax.data.inspection.inspect`, with `name`, `sha256` (for a file),
        `warnings`, `task`, `scores` (None: the task defines none), `stitching`, `filter`,
        `imagination`, `memory` and perhaps `seconds`.
    """
    quantiles, lengths = found["return_quantiles"], found["lengths"]
    lines = [
        f"{found['name']}",
        *([f"  sha256       {found['sha256']}"] if "sha256" in found else []),
        f"  task         {found['task']}",
        f"  transitions  {found['transitions']:,} in {found['episodes']:,} episodes, of which "
        f"{found['terminal_episodes']:,} end in a terminal state and {found['cut_episodes']:,} are "
        "cut",
        f"  lengths      {lengths['0']:.0f} … {lengths['50']:.0f} (median) … {lengths['100']:.0f} "
        "steps",
        "  returns      "
        + "  ".join(f"{share}% {value:.4g}" for share, value in quantiles.items())
        + f"  mean {found['return_mean']:.4g}",
    ]
    if scores := found["scores"]:
        lines.append(
            f"  scores       {scores['mean']:.1f} on average, {scores['kept']:.1f} of what the "
            f"filter keeps, {scores['best']:.1f} the best (normalised)"
        )
    for kind in ("observations", "actions"):
        lines += ["", *_dimension_lines(kind, found[kind])]
    stitching, kept, imagined = found["stitching"], found["filter"], found["imagination"]
    suggested = stitching["suggested_radius"]
    lines += [
        "",
        "what the config makes of it",
        *(
            f"  stitching    within radius {radius} ({stitching['unit']}) the median state has "
            f"{count:.0f} states of other episodes, {stitching['alone'][radius]:.0%} have none"
            for radius, count in stitching["neighbours"].items()
        ),
        f"               {suggested:g} gives the median state ten"
        if suggested is not None
        else "               too few states of other episodes to suggest a radius",
        f"  filter       {kept['rule']}: keeps {kept['episodes']:,} episodes of "
        f"{kept['transitions']:,} transitions, returns from {kept['lowest_return']:.4g}",
        f"  imagination  {imagined['horizon']} steps ahead; {imagined['long_enough']:.0%} of the "
        f"episodes are as long; aims at {imagined['target']}",
        "  memory       data "
        f"{found['memory']['data']}; DDR-I at least "
        + ", ".join(f"{name} {size}" for name, size in found["memory"]["teacher"].items()),
    ]
    if "seconds" in found:
        spent = ", ".join(f"{name} {_duration(s)}" for name, s in found["seconds"].items())
        lines.append(f"  time         of training DDR-I alone, here: {spent}")
    lines += ["", *(f"warning: {line}" for line in found["warnings"])] if found["warnings"] else []
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _dimension_lines(kind: str, dimensions: Sequence[dict[str, Any]]) -> list[str]:
    width = max(len(one["name"]) for one in dimensions)
    columns = ("min", "5%", "median", "95%", "max", "deviation")
    lines = [f"{kind:<{width + 2}}" + "".join(f"{name:>11}" for name in columns)]
    for one in dimensions:
        marks = []
        if one["constant"]:
            marks.append("constant")
        if one["outliers"]:
            marks.append(f"{one['outliers']:.2%} outliers")
        if one.get("at_ends", 0) > 0.01 and not one["constant"]:
            marks.append(f"{one['at_ends']:.0%} at the ends")
        numbers = "".join(f"{one[name]:>11.4g}" for name in columns)
        lines.append(f"  {one['name']:<{width}}{numbers}  {', '.join(marks)}".rstrip())
    return lines


def draw(data: Trajectories, names: Sequence[str], path: Path) -> None:
    """Draw a PNG: returns, lengths, states projected onto a plane, and some episodes over time.

    Args:
      data: the dataset.
      names: (m,) names of the state's dimensions.
      path: the file to write.
    """
    import matplotlib

    matplotlib.use("Agg", force=True)
    from matplotlib import pyplot as plt

    names = [name.replace("$", r"\$") for name in names]  # else `$` begins a formula
    figure, grid = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    returns = data.returns()
    grid[0, 0].hist(returns, bins=40, weights=data.lengths, color=BLUE)
    grid[0, 0].set(xlabel="return of the episode", ylabel="transitions")
    grid[0, 1].scatter(data.lengths, returns, s=8, alpha=0.5, color=BLUE)
    grid[0, 1].set(xlabel="steps", ylabel="return")
    rows = np.random.default_rng(0).permutation(data.size)[:SHOWN_STATES]
    (plane,) = principal_plane(data.observations)
    points = grid[1, 0].scatter(
        *plane[rows].T, c=returns[data.episode_of[rows]], s=2, alpha=0.5, cmap="viridis"
    )
    grid[1, 0].set(xlabel="states, first principal component", ylabel="second")
    figure.colorbar(points, ax=grid[1, 0], label="return of the episode")
    ranked = np.argsort(returns, kind="stable")
    chosen = ranked[np.linspace(0, len(ranked) - 1, SHOWN_EPISODES).astype(int)]
    for episode in dict.fromkeys(chosen.tolist()):
        steps = min(SHOWN_STEPS, int(data.lengths[episode]))
        start = data.starts[episode]
        grid[1, 1].plot(
            data.observations[start : start + steps, 0], lw=0.9, label=f"{returns[episode]:.4g}"
        )
    grid[1, 1].set(xlabel="time step", ylabel=names[0])
    grid[1, 1].legend(title="return", frameon=False, fontsize="small")
    for axes in (grid[0, 0], grid[0, 1], grid[1, 1]):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
