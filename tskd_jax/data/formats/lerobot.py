"""LeRobot's datasets (v2 and v3): `meta/info.json`, and frames in `data/**/*.parquet`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.data.formats.budget import Budget
from tskd_jax.data.formats.gather import side_by_side
from tskd_jax.data.formats.tables import open_table, vectors
from tskd_jax.data.keys import Keys, find
from tskd_jax.errors import DatasetError

INFO = Path("meta", "info.json")
CUSTOM: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation.*",),
    "actions": ("action", "action.*"),
    "rewards": ("next.reward", "reward"),
    "terminals": ("next.done", "next.terminated"),
    "next_observations": (),
    "timeouts": ("next.truncated",),
    "episode": ("episode_index",),
}


def read(folder: Path, keys: Keys, warn: Callable[[str], None]) -> Columns:
    """Read the columns of a LeRobot dataset: all vectors below `observation`, without its images.

    `next.done` is a terminal flag, with a warning if it ends every episode; without it every
    episode counts as cut.

    Raises:
      DatasetError: a file is missing or damaged, there is no reward, or a frame lacks a value.
    """
    try:
        info = json.loads((folder / INFO).read_text(encoding="utf-8"))
        features = {name: dict(one) for name, one in info["features"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"{folder / INFO}: does not describe a LeRobot dataset") from error
    files = sorted((folder / "data").glob("**/*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: no frames; data/**/*.parquet are missing")
    budget = Budget()
    tables = [open_table(file, budget) for file in files]
    images = [one for one in features if features[one].get("dtype") in ("video", "image", "string")]
    available = [one for one in tables[0].column_names if one not in images]
    # info.json lists the features in the robot's order.
    available.sort(key=lambda one: list(features).index(one) if one in features else len(features))
    found = find(str(folder), available, keys, CUSTOM, ("terminals",))
    for file, table in zip(files, tables, strict=True):
        missing = {one for role in found.values() for one in role} - set(table.column_names)
        if missing:
            raise DatasetError(
                f"{file}: column {min(missing)!r} is missing, which {files[0].name} has; is the "
                "dataset complete?"
            )
    arrays: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    for role, chosen in found.items():
        columns = {one: _joined(one, files, tables) for one in chosen}
        if role in ("observations", "actions", "next_observations"):
            arrays[role], parts = side_by_side(str(folder), columns)
            known = [name for one in chosen for name in _names(one, features)]
            names[role] = tuple(known) if len(known) == len(parts) else parts
        else:
            if len(columns) > 1:
                raise DatasetError(f"{folder}: {role} must be one feature, not {', '.join(chosen)}")
            (column,) = columns.values()
            if column.ndim == 2 and column.shape[1] != 1:
                raise DatasetError(
                    f"{folder}: column {chosen[0]!r} holds lists of {column.shape[1]} values; "
                    f"{role} must be one in each row"
                )
            arrays[role] = column if column.ndim == 1 else column[:, 0]
    if found.get("terminals") == ("next.done",) and "timeouts" not in found:
        _doubt_all_ends(folder, arrays, warn)
    left_out = [one for one in images if one.startswith("observation")]
    if left_out:
        warn(f"{folder}: images are not used: {', '.join(left_out)}")
    return Columns(arrays, names)


def _doubt_all_ends(
    folder: Path, arrays: Mapping[str, np.ndarray], warn: Callable[[str], None]
) -> None:
    """Warn if `next.done` is set where each episode ends and nowhere else.

    LeRobot's recorder sets it so, whether the task was done or the operator stopped.
    """
    episode = arrays["episode"]
    ends = np.append(episode[1:] != episode[:-1], True)
    if (arrays["terminals"].astype(bool) == ends).all():
        warn(
            f"{folder}: next.done ends every episode, so that no state after an end is worth "
            "anything; if recording was only stopped there, use "
            "--config.dataset.timeouts=next.done"
        )


def _joined(name: str, files: Sequence[Path], tables: Sequence[Any]) -> np.ndarray:
    """A feature's frames of all files; an error if one has vectors of another size."""
    parts = [vectors(file, name, table[name]) for file, table in zip(files, tables, strict=True)]
    for file, part in zip(files, parts, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise DatasetError(
                f"{file}: column {name!r} is of shape {part.shape}, but in {files[0].name} "
                f"{parts[0].shape}"
            )
    return np.concatenate(parts)


def _names(feature: str, features: Mapping[str, Any]) -> list[str]:
    """The names of a vector's dimensions in info.json, whose format for them has varied."""
    said = features.get(feature, {}).get("names")
    if isinstance(said, dict):
        said = next((one for one in said.values() if isinstance(one, list)), list(said))
    return [str(one) for one in said] if isinstance(said, list) else []
