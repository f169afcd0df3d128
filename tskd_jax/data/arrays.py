"""Converts arrays to trajectories: splits episodes, and derives or refuses missing columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np

from tskd_jax.data import seams
from tskd_jax.data.checks import DEFAULT, DatasetChecks
from tskd_jax.data.keys import REQUIRED
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.errors import DatasetError

RANKS = {
    "observations": 2,
    "actions": 2,
    "rewards": 1,
    "terminals": 1,
    "next_observations": 2,
    "timeouts": 1,
    "ends": 1,
}
FLAGS = ("terminals", "timeouts", "ends")
LARGEST = 1e15  # its square, summed over a million rows, is finite in single precision
# Episodes take turns if this share of the runs of rows after which an episode goes on later are
# single rows: of alternate rows all are, and half if one of two robots logs more often.
SINGLE = 0.3


@dataclass(frozen=True)
class Columns:
    """The contents of a file, under D4RL's keys.

    Attributes:
      arrays: key -> array of N rows: D4RL's keys, `ends` (terminal or cut) and `episode` (N,).
      names: "observations" and "actions" -> the names of their dimensions, if the file has any.
    """

    arrays: Mapping[str, np.ndarray]
    names: Mapping[str, tuple[str, ...]] = dataclass_field(default_factory=dict)


def from_arrays(
    columns: Mapping[str, np.ndarray], name: str = "dataset", checks: DatasetChecks = DEFAULT
) -> Trajectories:
    """Build trajectories from D4RL's arrays: split episodes and fill in missing next states.

    An episode ends where terminal or timeout is set, or where `episode` changes, unless the rows of
    several episodes take turns: these are put together, with a warning. Without `episode`,
    rows after the last end are dropped: it is unknown how that fragment ends. Where
    `checks.unordered`, every row is an episode, and needs its `next_observations`. Without
    `next_observations`, s'_i is s_{i+1} inside an episode, and the last transition of a truncated
    episode is dropped because its next state was not recorded. A terminal transition keeps its own
    state as a stand-in, since nothing bootstraps from it. Without `timeouts`, the end of the file
    ends an episode.

    Args:
      columns: observations (N, m), actions (N, n), rewards and terminals (N,), and if known
        next_observations (N, m), timeouts (N,), ends (N,) (terminal or cut), episode (N,) of any
        type.
      name: name of the file, for messages.
      checks: further requirements on the columns.

    Raises:
      DatasetError: a column is missing, misshapen, not numeric or not finite; no episode ends; or
        rows inside episodes are not consecutive.
    """
    columns = _with_timeouts(columns, name, checks)
    invalid = _invalid_rows(columns, name, checks)
    _check_precision(columns, name, invalid, checks)
    rows = len(invalid)
    terminals = columns["terminals"].astype(bool)
    ends = _ends(columns)
    if not ends.any():
        raise DatasetError(
            f"{name}: no episode ends: 'terminals' and 'timeouts' are false in all {rows} rows"
        )
    observations = columns["observations"]
    if "next_observations" in columns:
        next_observations = columns["next_observations"]
        unknown = seams.unknown_ends(name, observations, next_observations, ends, checks)
        seams.check_order(name, observations, next_observations, ends, invalid, checks)
        next_observations = np.where(unknown[:, None], observations, next_observations)
    else:
        unknown = ends
        seams.check_continuity(name, observations, ends, checks)
        next_observations = np.roll(observations, -1, axis=0)
        next_observations[ends] = observations[ends]
    kept = ~unknown | terminals
    last = np.flatnonzero(ends)[-1]
    kept[last + 1 :] = False
    episode = np.concatenate([[0], np.cumsum(ends)[:-1]])
    checks.check_split(name, np.flatnonzero(ends), rows, "timeouts" in columns)
    if invalid.any():
        poor = np.isin(episode, episode[invalid])
        kept &= ~poor
        if not kept.any():
            raise DatasetError(f"{name}: every episode has a row that is not finite")
        checks.warn(
            f"{name}: {len(np.unique(episode[poor]))} episodes of {poor.sum()} rows are dropped: "
            f"{invalid.sum()} of those rows are not finite"
        )
    lengths = np.bincount(episode[kept], minlength=episode[last] + 1)
    if not kept.any():
        raise DatasetError(
            f"{name}: every row ends an episode and there are no 'next_observations', so no "
            "transition is complete"
        )
    return from_columns(
        observations=observations[kept],
        actions=columns["actions"][kept],
        rewards=columns["rewards"][kept],
        next_observations=next_observations[kept],
        terminals=terminals[kept],
        lengths=lengths[lengths > 0],
    )


def _with_timeouts(
    columns: Mapping[str, np.ndarray], name: str, checks: DatasetChecks
) -> dict[str, np.ndarray]:
    """Replace `episode` and `ends` by `timeouts`, which flags the ends of truncated episodes.

    If the rows of episodes take turns, they are regrouped by episode, in the order in which the
    episodes begin.
    """
    columns = dict(columns)
    episode = columns.pop("episode", None)
    split = episode is not None or "timeouts" in columns
    if split and "terminals" not in columns and "rewards" in columns:
        columns["terminals"] = np.zeros(columns["rewards"].shape[:1], bool)
        checks.warn(
            f"{name}: nothing says which episodes ended in a terminal state; all count as cut by a "
            "time limit"
        )
    _check_forms(columns, name)
    rows = len(columns["rewards"])
    if "ends" in columns:
        columns["timeouts"] = (columns.pop("ends") != 0) & (columns["terminals"] == 0)
    if checks.unordered:
        if "next_observations" not in columns:
            raise DatasetError(
                f"{name}: key 'next_observations' is missing: unordered rows need it, since no row "
                "follows another; give --config.dataset.next_observations=NAME, or leave out "
                "--config.dataset.unordered=True"
            )
        episode = np.arange(rows)
    if episode is None:
        return columns
    if episode.shape != (rows,):
        raise DatasetError(
            f"{name}: key 'episode' has shape {episode.shape}, expected one number or name for "
            f"each of {rows} rows"
        )
    _, first, number = np.unique(episode, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[number]  # episodes numbered by their first row
    if _take_turns(rank, name, checks):
        order = np.argsort(rank, kind="stable")
        columns = {key: column[order] for key, column in columns.items()}
        rank = rank[order]
    cut = np.append(np.diff(rank) != 0, True)
    timeouts = columns.get("timeouts", np.zeros(rows, bool)) != 0
    columns["timeouts"] = (timeouts | cut) & (columns["terminals"] == 0)
    return columns


def _take_turns(episode: np.ndarray, name: str, checks: DatasetChecks) -> bool:
    """Whether rows of several episodes (N,) take turns; warns if an episode's number comes back.

    The numbers also come back where several recordings, each numbered from 0, are in one file.
    There a number stands in many rows before another takes its place.
    """
    begins = np.flatnonzero(np.diff(episode, prepend=-1))
    lengths = np.diff(begins, append=len(episode))
    last = np.empty(episode.max() + 1, int)
    last[episode[begins]] = begins  # the last assignment stays
    continued = begins != last[episode[begins]]
    if not continued.any():
        return False
    if (lengths[continued] == 1).mean() >= SINGLE:
        checks.warn(f"{name}: episodes take turns in the file; each one's rows are put together")
        return True
    checks.warn(
        f"{name}: {continued.sum()} times an episode's number comes back behind other episodes, "
        f"first in row {np.argmax(np.diff(episode) < 0) + 1}; a new episode begins there, as where "
        "several recordings are in one file; if that is wrong, put each episode's rows together"
    )
    return False


def _ends(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) bool, rows that end an episode; without `timeouts`, the last row is one, too."""
    ends = columns["terminals"] != 0
    if "timeouts" in columns:
        return ends | (columns["timeouts"] != 0)
    ends[-1] = True
    return ends


def _check_forms(columns: Mapping[str, np.ndarray], name: str) -> None:
    """Refuse columns that are missing, empty, or of a wrong type or shape, and invalid flags."""
    for key in REQUIRED:
        if key not in columns:
            raise DatasetError(f"{name}: key {key!r} is missing; found {sorted(columns)}")
    for key, column in columns.items():
        rank = RANKS[key]
        if column.dtype.kind not in "fiub" or column.ndim != rank:
            raise DatasetError(
                f"{name}: key {key!r} has type {column.dtype} and shape {column.shape}, expected "
                f"numbers of rank {rank}"
            )
    rows = len(columns["rewards"])
    if rows < 2:
        raise DatasetError(f"{name}: {rows} transitions; at least two are needed")
    for key, column in columns.items():
        if len(column) != rows:
            raise DatasetError(f"{name}: key {key!r} has {len(column)} rows, rewards have {rows}")
        if 0 in column.shape:
            raise DatasetError(f"{name}: key {key!r} has shape {column.shape}: nothing is in it")
        if key in FLAGS:
            bad = (column != 0) & (column != 1)
            if bad.any():
                raise DatasetError(
                    f"{name}: key {key!r} is neither 0 nor 1 in {bad.sum()} rows, first "
                    f"{column[bad.argmax()]} in row {bad.argmax()}; mend these flags: they split "
                    "the file into episodes"
                )
        if key == "next_observations" and column.shape != columns["observations"].shape:
            raise DatasetError(
                f"{name}: key 'next_observations' has shape {column.shape}, observations have "
                f"{columns['observations'].shape}"
            )


def _invalid_rows(
    columns: Mapping[str, np.ndarray], name: str, checks: DatasetChecks
) -> np.ndarray:
    """(N,) bool, the invalid rows; an error unless `checks` allows dropping their episodes."""
    rows = len(columns["rewards"])
    invalid = np.zeros(rows, bool)
    for key, column in columns.items():
        if key in FLAGS:
            continue
        if key == "next_observations":
            # The state after an end may not have been recorded.
            column = np.where(_ends(columns)[:, None] & ~np.isfinite(column), 0, column)
        with np.errstate(invalid="ignore", over="ignore"):
            bad = ~(np.abs(column.astype(np.float32)) <= LARGEST).reshape(rows, -1).all(1)
        if bad.any() and not checks.drop_invalid:
            raise DatasetError(
                f"{name}: key {key!r} is not finite, or beyond ±{LARGEST:.0e}, in {bad.sum()} "
                f"rows, first in row {bad.argmax()}; mend them, or drop the episodes of those "
                "rows with --config.dataset.drop_invalid=True"
            )
        invalid |= bad
    return invalid


def _check_precision(
    columns: Mapping[str, np.ndarray], name: str, invalid: np.ndarray, checks: DatasetChecks
) -> None:
    """Warn if single precision, in which trajectories are kept, blurs a dimension."""
    for key in ("observations", "actions"):
        if invalid.all() or np.can_cast(columns[key].dtype, np.float32):
            continue
        blurred = {}
        for index, column in enumerate(columns[key][~invalid].T):
            deviation = np.subtract(column, column[0], dtype=np.float64).std()
            error = np.abs(np.subtract(column, column.astype(np.float32), dtype=np.float64)).max()
            # A dimension that hardly moves is constant, with or without its last digits.
            if deviation > seams.STILL and error > seams.ROUNDING * deviation:
                blurred[index] = error
        if blurred:
            worst = max(blurred, key=lambda index: blurred[index])
            checks.warn(
                f"{name}: single precision, in which data are kept, rounds key {key!r} in columns "
                f"{', '.join(map(str, blurred))} (counted from 0), by up to {blurred[worst]:.2g} "
                f"in column {worst}; subtract an offset from them"
            )
