"""Statistics of a dataset, to inspect it before training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tskd_jax.data.trajectories import Trajectories, describe

QUERIES = 400  # states whose neighbours are counted
NEIGHBOURS = 10  # of the median state, in other episodes, within the suggested radius
OUTLYING = 10.0  # distance of an outlier from the median, in spreads (95% - 5% quantile)


def inspect(data: Trajectories, names: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Compute statistics of a dataset, as plain numbers and names.

    Args:
      data: E episodes.
      names: "observations" and "actions" -> the names of their dimensions, if known.

    Returns:
      The entries of `describe`, and: `lengths` (quantiles), `cut_episodes`, `observations` and
      `actions`: for each dimension its name, range, quantiles, standard deviation, whether it is
      constant, and the share of outliers; for actions also the share at the extreme values.
    """
    names = names or {}
    lengths = np.quantile(data.lengths, [0.0, 0.5, 1.0])
    found = describe(data)
    return found | {
        "lengths": dict(zip(("0", "50", "100"), lengths.tolist(), strict=True)),
        "cut_episodes": found["episodes"] - found["terminal_episodes"],
        "observations": _dimensions(data.observations, names.get("observations"), "observation"),
        "actions": [
            one | {"at_ends": share}
            for one, share in zip(
                _dimensions(data.actions, names.get("actions"), "action"),
                _at_ends(data.actions),
                strict=True,
            )
        ],
    }


def neighbourhoods(
    data: Trajectories, radii: Sequence[float], unit: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """Count the states of other episodes in the neighbourhood of a state.

    Args:
      data: E episodes of N states.
      radii: radii of the neighbourhoods.
      unit: (m,) unit of distance in each dimension.
      seed: seed for drawing the states.

    Returns:
      neighbours: for each radius the median count; alone: for each radius the share of states
      without neighbours; suggested_radius: within which the median state has ten neighbours.
    """
    # Distances are differences of squares, which a common offset would swamp.
    states = (data.observations - data.observations.mean(0, dtype=np.float64)) / unit
    episode = data.episode_of
    rows = np.random.default_rng(seed).permutation(data.size)[:QUERIES]
    norms = np.square(states).sum(1)
    counts = np.zeros((len(rows), len(radii)))
    tenth = np.full(len(rows), np.inf)
    for index, row in enumerate(rows):
        squares = norms + norms[row] - 2 * states @ states[row]
        squares = squares[episode != episode[row]]
        for column, radius in enumerate(radii):
            counts[index, column] = (squares <= radius**2).sum()
        if len(squares) >= NEIGHBOURS:
            nearest = np.partition(squares, NEIGHBOURS - 1)[NEIGHBOURS - 1]
            tenth[index] = np.sqrt(max(float(nearest), 0.0))
    suggested = float(np.median(tenth))
    return {
        "neighbours": dict(zip(map(str, radii), np.median(counts, 0).tolist(), strict=True)),
        "alone": dict(zip(map(str, radii), (counts == 0).mean(0).tolist(), strict=True)),
        "suggested_radius": float(f"{suggested:.2g}") if np.isfinite(suggested) else None,
    }


def _dimensions(
    columns: np.ndarray, names: Sequence[str] | None, kind: str
) -> list[dict[str, Any]]:
    count = columns.shape[1]
    named = list(names) if names and len(names) == count else [f"{kind}_{i}" for i in range(count)]
    low, few, middle, most, high = np.quantile(columns, [0.0, 0.05, 0.5, 0.95, 1.0], axis=0)
    spread = np.maximum(most - few, 1e-12)
    outlying = (np.abs(columns - middle) > OUTLYING * spread).mean(0)
    return [
        {
            "name": named[i],
            "min": float(low[i]),
            "5%": float(few[i]),
            "median": float(middle[i]),
            "95%": float(most[i]),
            "max": float(high[i]),
            "deviation": float(columns[:, i].std()),
            "constant": bool(low[i] == high[i]),
            "outliers": float(outlying[i]) if low[i] < high[i] else 0.0,
        }
        for i in range(count)
    ]


def _at_ends(actions: np.ndarray) -> list[float]:
    """Per dimension, the share of actions within 0.1% of the range from its minimum or maximum."""
    low, high = actions.min(0), actions.max(0)
    margin = 1e-3 * (high - low)
    return ((actions <= low + margin) | (actions >= high - margin)).mean(0).tolist()
