"""Columns out of a file of named arrays (HDF5, npz), whichever way it names them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tskd_jax.data.arrays import RANKS, Columns
from tskd_jax.data.keys import ARRAYS, Keys, ends_of, find
from tskd_jax.errors import DatasetError

ANY_RANK = 0  # a vector's part may be one number a row, or several


def gather(
    name: str,
    available: Sequence[str],
    read: Callable[[str, int], np.ndarray],
    keys: Keys,
    warn: Callable[[str], None],
    optional: Sequence[str] = (),
) -> Columns:
    """What each role holds: one array, or several side by side.

    Args:
      name: of the file, for messages.
      available: the names of its arrays, "group/key" for those below a group.
      read: (key, rank) -> the array of that rank, or for rank 0 of rank 1 or 2.
      keys: which of them hold what.
      warn: called with what was not as D4RL has it.
      optional: required roles that may be missing.

    Raises:
      DatasetError: a role is missing, or its parts do not fit together.
    """
    customary = ARRAYS
    group = _only_group(available)
    if group:
        customary = {role: tuple(f"{group}/{one}" for one in ARRAYS[role]) for role in ARRAYS}
    # An episode's number says where it ends.
    found = find(name, available, keys, customary, ("terminals",) if keys.episode else optional)
    if group and any(one.startswith(f"{group}/") for chosen in found.values() for one in chosen):
        warn(f"{name}: read from its group {group!r}")
    arrays: dict[str, np.ndarray] = {}
    names: dict[str, tuple[str, ...]] = {}
    for role, chosen in found.items():
        rank = RANKS.get(role, 1)
        if len(chosen) == 1:
            arrays[role] = read(chosen[0], rank)
            continue
        if rank == 1:
            raise DatasetError(f"{name}: {role} must be one key, not {', '.join(chosen)}")
        arrays[role], names[role] = side_by_side(name, {one: read(one, ANY_RANK) for one in chosen})
    ends = ends_of(available, found)
    if ends:
        warn(f"{name}: key {ends!r} is taken for the ends of all episodes, terminal or cut")
        arrays["ends"] = read(ends, 1)
    return Columns(arrays, names)


def side_by_side(name: str, parts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """((N, m) parts of rank 1 or 2 as one, the names of its dimensions).

    Raises:
      DatasetError: they have different numbers of rows.
    """
    if len({len(part) for part in parts.values()}) > 1:
        rows = ", ".join(f"{key} {len(part)}" for key, part in parts.items())
        raise DatasetError(f"{name}: parts of one vector differ in rows: {rows}")
    names: list[str] = []
    for key, part in parts.items():
        names += [key] if part.ndim == 1 else [f"{key}[{i}]" for i in range(part.shape[1])]
    columns = [part if part.ndim == 2 else part[:, None] for part in parts.values()]
    return np.concatenate(columns, 1), tuple(names)


def _only_group(available: Sequence[str]) -> str:
    """The group that holds observations, where one does and the file itself does not."""
    places = {one.rpartition("/")[0] for one in available if one.split("/")[-1] == "observations"}
    return places.pop() if len(places) == 1 else ""
