"""The numbers that the paper reports, by our names of methods and D4RL's names of datasets.

They can be compared with ours only on D4RL's data.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A score of Table 1: the mean over 5 seeds, and the standard error if the paper reports it."""

    mean: float
    stderr: float | None = None


_COLUMNS = (
    *("bc", "cql", "iql", "decision_transformer", "trajectory_transformer", "diffuser"),
    *("decision_diffuser", "mbts", "tskd"),
)
# None: a dash in the paper. The last number of a row is the standard error of `tskd`.
_ROWS: dict[str, tuple[float | None, ...]] = {
    "halfcheetah-medium-expert-v2": (55.2, 91.6, 86.7, 86.8, 95, 79.8, 90.6, 86.9, 86.8, 0.7),
    "hopper-medium-expert-v2": (52.5, 105.4, 91.5, 107.6, 110.0, 107.2, 111.8, 94.8, 105.14, 6.1),
    "walker2d-medium-expert-v2": (
        *(107.5, 108.8, 109.6, 108.1, 101.9, 108.4, 108.8, 108.8, 109.1, 0.1),
    ),
    "halfcheetah-medium-v2": (42.6, 44.0, 47.4, 42.6, 46.9, 44.2, 49.1, 43.2, 44.1, 0.7),
    "hopper-medium-v2": (52.9, 58.5, 66.3, 67.6, 61.1, 58.5, 79.3, 64.3, 83.2, 8.1),
    "walker2d-medium-v2": (75.3, 72.5, 78.3, 74.0, 79, 79.7, 82.5, 78.8, 78.5, 2.0),
    "halfcheetah-medium-replay-v2": (36.6, 45.5, 44.2, 36.6, 41.9, 42.2, 39.3, 39.8, 38.9, 3.2),
    "hopper-medium-replay-v2": (18.1, 95, 94.7, 82.7, 91.5, 96.8, 100, 50.2, 96.4, 6.8),
    "walker2d-medium-replay-v2": (26.0, 77.2, 73.9, 66.6, 82.6, 61.2, 75, 61.5, 74.5, 6.5),
    "kitchen-mixed-v0": (51.5, 52.4, 51, None, None, None, 65, None, 60.0, 4.8),
    "kitchen-partial-v0": (38, 50.1, 46.3, None, None, None, 57, None, 44.4, 3.9),
}


def table1(dataset: str, method: str) -> Published | None:
    """The paper's score of a method on a D4RL dataset; None if it reports none."""
    row = _ROWS.get(dataset)
    if row is None or method not in _COLUMNS:
        return None
    mean = row[_COLUMNS.index(method)]
    return None if mean is None else Published(mean, row[-1] if method == "tskd" else None)


# Table 3, millions of parameters.
_TABLE_3 = {
    "hopper": {"decision_diffuser": 59.73, "decision_transformer": 0.86}
    | {"trajectory_transformer": 1.23, "tskd": 0.07},
    "halfcheetah": {"decision_diffuser": 59.74, "decision_transformer": 0.86}
    | {"trajectory_transformer": 1.47, "tskd": 0.07},
    "walker2d": {"decision_diffuser": 59.74, "decision_transformer": 0.86}
    | {"trajectory_transformer": 1.47, "tskd": 0.07},
}


def parameters(environment: str, method: str) -> float | None:
    """Millions of parameters in the paper's Table 3; None if it reports none."""
    return _TABLE_3.get(environment, {}).get(method)


# Table 2, seconds: 10 episodes of 200, 400, … 1000 steps on hopper, on one RTX 3080.
_TABLE_2 = {
    "decision_diffuser": (236.89, 474.69, 711.63, 950.03, 1185.19),
    "tskd": (2.08, 4.16, 6.24, 8.32, 10.40),
}


def planning_seconds(method: str) -> dict[int, float]:
    """Steps of an episode -> seconds in the paper's Table 2; empty if it reports none."""
    return dict(zip((200, 400, 600, 800, 1000), _TABLE_2.get(method, ()), strict=False))
