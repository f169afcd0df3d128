"""Minari's datasets, read without the minari package: HDF5, and with pyarrow Arrow and Parquet.

An episode has T + 1 observations, and T entries in all other arrays. Dict observations are
flattened in the order of the space, as in `gymnasium.wrappers.FlattenObservation`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.data.formats.budget import Budget
from tskd_jax.data.formats.gather import ANY_RANK, side_by_side
from tskd_jax.data.formats.hdf5 import Reader, open_file
from tskd_jax.data.formats.tables import open_table, vector_tree, vectors
from tskd_jax.data.keys import Keys, chosen, refuse
from tskd_jax.errors import DatasetError

FILE = "main_data.hdf5"
VECTORS, NUMBERS = ("observations", "actions"), ("rewards", "terminations")
ROLES = {key: key for key in (*VECTORS, "rewards")} | {"terminations": "terminals"}
GIVEN = ("timeouts", "next_observations", "episode")  # by the layout itself
# A vector, or the parts of a Dict by name, possibly nested.
Tree = np.ndarray | Mapping[str, Any]


def is_minari(path: Path) -> bool:
    """Whether the file has Minari's `episode_<i>` groups; False if it is not HDF5 at all."""
    try:
        with open_file(path) as file:
            reader = Reader(path, file)
            return reader.has("episode_0") and not reader.has("observations")
    except DatasetError:  # the reader of the other format reports what is wrong with the file
        return False


def data_folder(path: Path) -> Path | None:
    """The folder with a dataset's data: `path` or `data` in it; None if neither has any."""
    for folder in (path, path / "data"):
        if (folder / FILE).is_file() or any(folder.glob("*/part-0.*")):
            return folder
    return None


def read(path: Path, keys: Keys) -> Columns:
    """Read the columns of a Minari dataset: its `main_data.hdf5`, or the folder with its episodes.

    `keys` may name other arrays, and parts of a Dict: observations/goal. In Arrow and Parquet the
    parts are those of the same Dict.

    Raises:
      DatasetError: an episode lacks an array, holds anything but vectors of numbers, or its lengths
        are inconsistent; `keys` names anything else; or the package that reads it is missing.
    """
    refuse(str(path), keys, GIVEN, "each of Minari's episodes has its states and its end")
    spaces = _spaces(path if path.is_dir() else path.parent)
    episodes = _read_folder(path, keys) if path.is_dir() else _read_hdf5(path, keys)
    if not episodes:
        raise DatasetError(f"{path}: no episode holds a transition")
    names: dict[str, tuple[str, ...]] = {}
    parts: dict[str, list[np.ndarray]] = {}
    for title, episode in episodes.items():
        for key in VECTORS:
            episode[key], names[key] = (
                side_by_side(f"{path}: {title}", episode[key])
                if getattr(keys, key)
                else _flatten(path, title, key, episode[key], spaces.get(key))
            )
        for key, column in _columns(path, title, episode).items():
            parts.setdefault(key, []).append(column)
    if not parts:
        raise DatasetError(f"{path}: no episode holds a transition")
    for key, columns in parts.items():
        if len({column.shape[1:] for column in columns}) > 1:
            raise DatasetError(f"{path}: {key} differ in size between episodes")
    return Columns(
        {key: np.concatenate(value) for key, value in parts.items()},
        {key: value for key, value in names.items() if value},
    )


def _read_hdf5(path: Path, keys: Keys) -> dict[str, dict[str, Any]]:
    """Title -> an episode's arrays, in the order of the episodes' numbers."""
    with open_file(path) as file:
        reader = Reader(path, file)
        names = (name for name in map(str, file) if re.fullmatch(r"episode_\d+", name))
        episodes = {}
        for name in sorted(names, key=lambda name: int(name[8:])):
            group = reader.group(name) if reader.is_group(name) else None
            episodes[name] = {}
            for key, rank in (
                *dict.fromkeys(VECTORS, 2).items(),
                *dict.fromkeys(NUMBERS, 1).items(),
            ):
                if group is not None and getattr(keys, ROLES[key]):
                    wanted = _chosen(f"{path}: {name}", group.arrays(), keys, key)
                    arrays = {one: group.array(one, ANY_RANK if rank == 2 else 1) for one in wanted}
                    episodes[name][key] = arrays if rank == 2 else arrays[wanted[0]]
                    continue
                if group is None or not group.has(key) or (rank == 1 and group.is_group(key)):
                    there = [] if group is None else group.arrays()
                    raise DatasetError(f"{path}: {name} has no array {key!r}; found {there[:20]}")
                episodes[name][key] = _tree(group, key) if rank == 2 else group.array(key, rank)
        return episodes


def _chosen(where: str, available: Sequence[str], keys: Keys, key: str) -> tuple[str, ...]:
    """The arrays that the user chose for a key of an episode; one if it is of `NUMBERS`."""
    names = chosen(where, available, keys, ROLES[key])
    if key in NUMBERS and len(names) > 1:
        raise DatasetError(f"{where}: {ROLES[key]} must be one array, not {', '.join(names)}")
    return names


def _leaves(name: str, tree: Tree) -> dict[str, np.ndarray]:
    """The arrays of a tree by their names, as "observations/goal"."""
    if isinstance(tree, np.ndarray):
        return {name: tree}
    return {k: v for key, one in tree.items() for k, v in _leaves(f"{name}/{key}", one).items()}


def _tree(group: Reader, key: str) -> Tree:
    if not group.is_group(key):
        return group.array(key, 2)
    below = group.group(key)
    return {name: _tree(below, name) for name in below.names()}


def _read_folder(path: Path, keys: Keys) -> dict[str, dict[str, Any]]:
    """Title -> an episode's arrays, without the row of padding at its end in Arrow and Parquet."""
    budget = Budget()
    files = sorted(path.glob("*/part-0.*"), key=lambda file: (len(file.parent.name), file.parent))
    episodes = {}
    for file in files:
        title = f"episode {file.parent.name}"
        table = open_table(file, budget)
        where, sources = f"{path}: {title}", {key: key for key in (*VECTORS, *NUMBERS)}
        for key in NUMBERS:
            if getattr(keys, ROLES[key]):
                (sources[key],) = _chosen(where, table.column_names, keys, key)
        missing = [one for one in sources.values() if one not in table.column_names]
        if missing:
            raise DatasetError(f"{where} has no array {missing[0]!r}; found {table.column_names}")
        read = dict.fromkeys(VECTORS, vector_tree) | dict.fromkeys(NUMBERS, vectors)
        episode = {key: read[key](file, one, table[one]) for key, one in sources.items()}
        for key in VECTORS:
            if getattr(keys, key):
                leaves = _leaves(key, episode[key])
                names = _chosen(where, list(leaves), keys, key)
                episode[key] = {one: leaves[one] for one in names}
        steps = len(table) - 1
        cut = {key: _cut(episode[key], steps) for key in ("actions", *NUMBERS)}
        episodes[title] = {"observations": episode["observations"]} | cut
    return episodes


def _cut(tree: Tree, steps: int) -> Tree:
    if isinstance(tree, np.ndarray):
        return tree[: max(steps, 0)]
    return {key: _cut(value, steps) for key, value in tree.items()}


def _spaces(folder: Path) -> dict[str, Any]:
    """The spaces that metadata.json describes; empty if it is missing or invalid."""
    try:
        known = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
        return {
            "observations": json.loads(known["observation_space"]),
            "actions": json.loads(known["action_space"]),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _flatten(
    path: Path, title: str, key: str, tree: Tree, space: Any
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Flatten a vector or Dict to ((T, m) array, names of a Dict's dimensions).

    The parts of a Dict are in the order of the space, or alphabetical if the space does not name
    them. A Tuple is a Dict whose parts are named by their numbers.
    """
    if isinstance(tree, np.ndarray):
        if tree.ndim != 2:
            raise DatasetError(
                f"{path}: {title}: {key} have shape {tree.shape}; supported are vectors of real "
                "numbers, and Dicts of them"
            )
        return tree, ()
    below = space.get("subspaces", {}) if isinstance(space, dict) else {}
    if isinstance(below, list):  # a Tuple: its parts are _index_0 … in HDF5; 0 … in Arrow, Parquet
        below = {f"{form}{i}": one for i, one in enumerate(below) for form in ("_index_", "")}
    below = below if isinstance(below, dict) else {}
    order = [name for name in below if name in tree]
    order += sorted(set(tree) - set(order), key=_place)
    parts = {}
    for name in order:
        part, inner = _flatten(path, title, f"{key}/{name}", tree[name], below.get(name))
        parts |= (
            {f"{name}/{one}": part[:, i] for i, one in enumerate(inner)} if inner else {name: part}
        )
    if not parts:
        raise DatasetError(f"{path}: {title}: {key} are an empty Dict")
    return side_by_side(f"{path}: {title}", parts)


def _place(name: str) -> tuple[int, str]:
    """Sorts parts: those of a Tuple by their numbers, those of a Dict by their names."""
    number = re.fullmatch(r"_index_(\d+)", name)
    return (int(number[1]) if number else -1, name)


def _columns(path: Path, title: str, episode: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert one episode to D4RL's columns; empty if it has no step."""
    steps = len(episode["rewards"])
    if len(episode["observations"]) != steps + 1:
        raise DatasetError(
            f"{path}: {title} has {len(episode['observations'])} observations and {steps} "
            "rewards; T + 1 and T are expected"
        )
    for key in ("actions", "terminations"):
        if len(episode[key]) != steps:
            raise DatasetError(f"{path}: {title} has {len(episode[key])} {key} and {steps} rewards")
    if steps == 0:
        return {}
    timeouts = np.zeros(steps, bool)
    timeouts[-1] = not episode["terminations"][-1]
    return {
        "observations": episode["observations"][:-1],
        "next_observations": episode["observations"][1:],
        "actions": episode["actions"],
        "rewards": episode["rewards"],
        "terminals": episode["terminations"],
        "timeouts": timeouts,
    }
