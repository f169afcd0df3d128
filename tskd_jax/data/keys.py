"""Maps the keys or columns of a file to roles: by common names, or as the user specifies."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from tskd_jax.errors import DatasetError

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("next_observations", "timeouts")
FLAGS = ("terminals", "timeouts")
# Keys that flag all ends, terminal or cut, next to a key that flags only terminal ends.
ENDS = ("dones", "done", "episode_terminals", "episode_ends", "ends")
# Arrays of HDF5 and npz: D4RL's names, and Gymnasium's equivalents.
ARRAYS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observations",),
    "actions": ("actions",),
    "rewards": ("rewards",),
    "terminals": ("terminals", "terminations", "terminated"),
    "next_observations": ("next_observations",),
    "timeouts": ("timeouts", "truncations", "truncated"),
    "episode": (),
}
# Columns of tables: each holds one number, or in Parquet possibly a vector.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "observations": ("observation_*", "observations", "observation"),
    "actions": ("action_*", "actions", "action"),
    "rewards": ("reward", "rewards"),
    "terminals": ("terminal", "terminals", "terminated", "termination"),
    "next_observations": ("next_observation_*", "next_observations", "next_observation"),
    "timeouts": ("timeout", "timeouts", "truncated", "truncation"),
    "episode": ("episode", "episode_id", "episode_index"),
}
# Names that others use, too ambiguous to be read unless the user confirms them.
LIKELY = {
    "observations": ("observation", "obs", "states", "state", "s"),
    "actions": ("action", "acts", "act", "a"),
    "rewards": ("reward", "rews", "rew", "r"),
    "terminals": ("terminal", *ENDS),
}
SHOWN = 20


@dataclass(frozen=True)
class Keys:
    """The user's choice by role: keys or columns separated by commas, `*` for any text.

    An empty string stands for the common names.
    """

    observations: str = ""
    actions: str = ""
    rewards: str = ""
    terminals: str = ""
    timeouts: str = ""
    next_observations: str = ""
    episode: str = ""


AS_CUSTOMARY = Keys()
ROLES = tuple(one.name for one in fields(Keys))


def find(
    name: str,
    available: Sequence[str],
    keys: Keys,
    customary: Mapping[str, tuple[str, ...]],
    optional: Iterable[str] = (),
) -> dict[str, tuple[str, ...]]:
    """Find the keys or columns for each role, in order; roles without any are left out.

    Args:
      name: name of the file, for messages.
      available: all keys or columns of the file.
      keys: the user's choice, which takes precedence over common names.
      customary: role -> common names or patterns; the first one that matches is used.
      optional: the required roles that may be missing in this format; `terminals` may also be
        where `timeouts` say how episodes end.

    A flag of ends that the user gave to one of `terminals` and `timeouts` has not the other role,
    too.

    Raises:
      DatasetError: a required role, or a key that the user named, is missing.
    """
    found: dict[str, tuple[str, ...]] = {}
    flags = {one.strip() for one in f"{keys.terminals},{keys.timeouts}".split(",")}
    for role in ROLES:
        if getattr(keys, role):
            found[role] = chosen(name, available, keys, role)
            continue
        for pattern in customary[role]:
            matching = _matching(available, pattern)
            if matching and not (role in FLAGS and flags.intersection(matching)):
                found[role] = tuple(matching)
                break
    if "timeouts" in found:
        optional = (*optional, "terminals")
    absent = [role for role in REQUIRED if role not in found and role not in optional]
    if not absent and "terminals" not in found:
        # A likely key may flag terminal ends or all ends: the user decides.
        likely = set(_beside(available, found, LIKELY["terminals"]))
        absent = ["terminals"] if likely - set(found.get("timeouts", ())) else []
    if absent:
        raise DatasetError(
            f"{name}: key {absent[0]!r} is missing; found {_shown(available)}"
            + _suggestion(absent, available)
        )
    return found


def chosen(name: str, available: Sequence[str], keys: Keys, role: str) -> tuple[str, ...]:
    """The keys or columns that the user chose for a role; the arguments are those of `find`.

    Raises:
      DatasetError: one of them is missing.
    """
    given = getattr(keys, role)
    found: list[str] = []
    for pattern in [one for one in map(str.strip, given.split(",")) if one] or [given]:
        matching = _matching(available, pattern)
        if not matching:
            raise DatasetError(
                f"{name}: config.dataset.{role}={given!r}: there is no {pattern!r}; found "
                f"{_shown(available)}"
            )
        found += matching
    return tuple(found)


def refuse(name: str, keys: Keys, roles: Iterable[str], reason: str) -> None:
    """Refuse the user's choice for any of `roles`.

    Raises:
      DatasetError: there is one; `reason` says why it cannot be followed.
    """
    for role in roles:
        if getattr(keys, role):
            raise DatasetError(
                f"{name}: config.dataset.{role}={getattr(keys, role)!r} cannot be chosen: {reason}"
            )


def ends_of(available: Sequence[str], found: Mapping[str, tuple[str, ...]]) -> str | None:
    """The key that flags all ends, if the file has terminals but no timeouts; otherwise None."""
    if "timeouts" in found or "terminals" not in found:
        return None
    likely = _beside(available, found, ENDS)
    return next((key for key in likely if key not in found["terminals"]), None)


def _beside(
    available: Sequence[str], found: Mapping[str, tuple[str, ...]], names: Iterable[str]
) -> list[str]:
    """The keys of those names in the group of the rewards, or below no group."""
    group = found["rewards"][0].rpartition("/")[0]
    places = dict.fromkeys((f"{group}/" if group else "", ""))
    return [place + one for one in names for place in places if place + one in available]


def _matching(available: Sequence[str], pattern: str) -> list[str]:
    if "*" not in pattern:
        return [pattern] if pattern in available else []
    fits = re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
    matching = [one for one in available if fits.fullmatch(one)]
    # observation_10 comes after observation_2. All else stays in the file's order: unnumbered
    # columns, and names before a number: pos_0, pos_1, vel_0, vel_1 are two vectors, not one.
    numbered = [re.fullmatch(r"(.*?)(\d+)\]?", one, re.DOTALL) for one in matching]
    parts = [(found[1], int(found[2])) for found in numbered if found]
    if len(parts) < len(matching):
        return matching
    places = sorted(range(len(parts)), key=lambda index: parts[index][0])
    sources = sorted(range(len(parts)), key=lambda index: parts[index])
    return [matching[source] for _, source in sorted(zip(places, sources, strict=True))]


def _shown(available: Sequence[str]) -> str:
    more = f" and {len(available) - SHOWN} more" if len(available) > SHOWN else ""
    return f"{list(available[:SHOWN])}{more}"


def _suggestion(absent: Sequence[str], available: Sequence[str]) -> str:
    """Suggest flags for the missing roles: with likely names, or with names to be filled in."""
    likely, others = [], []
    for role in absent:
        names = (role, *LIKELY[role])
        named = [one for one in available if one.rsplit("/")[-1].lower() in names]
        flag = f"--config.dataset.{role}={named[0] if named else 'NAME'}"
        if role == "rewards" and not named:
            flag += " (not logged: compute them, or add a column of 0 and clone all, methods=bc)"
        elif role == "terminals":
            flag += (
                f" (or --config.dataset.timeouts={named[0]}, if it flags only cuts)"
                if named
                else " (or --config.dataset.episode=NAME, if it numbers the recordings; or "
                "--config.dataset.timeouts=NAME, if it flags only cuts)"
            )
        (likely if named else others).append(flag)
    seeming = f"; if they are what they seem: {' '.join(likely)}" if likely else ""
    asked = f"; say what to read (several by comma, * for any text): {' '.join(others)}"
    return seeming + (asked if others else "")
