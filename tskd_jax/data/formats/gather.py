"""Gathers columns from a file of named arrays (HDF5, npz), whatever names it uses."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tskd_jax.data.arrays import RANKS, Columns
from tskd_jax.data.keys import ARRAYS, Keys, ends_of, find
from tskd_jax.errors import DatasetError

ANY_RANK = 0  # a part of a vector may have one number per row, or several


def gather(
    name: str,
    available: Sequence[str],
    read: Callable[[str, int], np.ndarray],
    keys: Keys,
    warn: Callable[[str], None],
    optional: Sequence[str] = (),
) -> Columns:
    """Gather the column of each role from one array, or from several side by side.

    Args:
      name: name of the file, for messages.
      available: the names of its arrays, "group/key" for those below a group.
      read: (key, rank) -> the array of that rank; for rank 0, of rank 1 or 2.
      keys: the user's choice of arrays for roles.
      warn: called with each deviation from D4RL's format.
      optional: required roles that may be missing.

    Raises:
      DatasetError: a role is missing, or its parts do not fit together.
    """
    customary = ARRAYS
    group = _only_group(available)
    if group:
        customary = {role: tuple(f"{group}/{one}" for one in ARRAYS[role]) for role in ARRAYS}
    # If rows have episode numbers, these give the ends of episodes: `terminals` may be missing.
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
    """Join parts of rank 1 or 2 to (one (N, m) array, the names of its dimensions).

    Raises:
      DatasetError: the parts have different numbers of rows, or another rank, or hold no numbers.
    """
    for key, part in parts.items():
        if part.dtype.kind not in "fiub":
            raise DatasetError(f"{name}: {key} holds {part.dtype}, not numbers")
        if part.ndim not in (1, 2):
            raise DatasetError(f"{name}: {key} has shape {part.shape}, expected (N,) or (N, size)")
    if len({len(part) for part in parts.values()}) > 1:
        rows = ", ".join(f"{key} {len(part)}" for key, part in parts.items())
        raise DatasetError(f"{name}: parts of one vector differ in rows: {rows}")
    names: list[str] = []
    for key, part in parts.items():
        names += [key] if part.ndim == 1 else [f"{key}[{i}]" for i in range(part.shape[1])]
    columns = [part if part.ndim == 2 else part[:, None] for part in parts.values()]
    return np.concatenate(columns, 1), tuple(names)


def _only_group(available: Sequence[str]) -> str:
    """The group that holds `observations`, if exactly one does and the root does not; else ""."""
    places = {one.rpartition("/")[0] for one in available if one.split("/")[-1] == "observations"}
    return places.pop() if len(places) == 1 else ""
