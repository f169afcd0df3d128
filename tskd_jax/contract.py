"""The contract in a student's file: its inputs, its outputs, and where it comes from.

This module needs only the standard library, so that policies can be loaded without JAX.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from tskd_jax.errors import PolicyError

LARGEST_CONTRACT = 2**20  # bytes of JSON; with 111 dimensions a contract has 6,000
FORMAT = 1  # version of the JSON; later versions may add keys, which are ignored


@dataclass(frozen=True)
class Contract:
    """The contract that is stored with a student. Unknown fields are empty or None.

    Attributes:
      observation_size, action_size: m and n.
      action_low, action_high: (n,) bounds of the actions, raw units.
      observation_names, observation_units: (m,) names and units of the dimensions, in order.
      action_names, action_units: (n,); a unit is the quantity that an action of 1 stands for, such
        as "200 N m".
      observation_low, observation_high: (m,) range of the recorded observations; outside it the
        student is untested.
      control_hz: actions per second of the environment's time.
      environment: Gymnasium's id.
      dataset, dataset_sha256: name and hash of the recorded dataset.
      score, score_error: this student's mean over its episodes, and the standard error of the mean.
      score_episodes: number of these episodes.
      score_unit: "normalised score" or "return".
      score_measured_in: "simulator" or "learned world"; a score in a learned world is not a
        measurement of the robot.
      method, seed: the method and the seed that trained the student.
      versions: package -> version.
    """

    observation_size: int
    action_size: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    observation_names: tuple[str, ...] = ()
    observation_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()
    observation_low: tuple[float, ...] = ()
    observation_high: tuple[float, ...] = ()
    control_hz: float | None = None
    environment: str = ""
    dataset: str = ""
    dataset_sha256: str = ""
    score: float | None = None
    score_error: float | None = None
    score_episodes: int | None = None
    score_unit: str = ""
    score_measured_in: str = ""
    method: str = ""
    seed: int | None = None
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        """Check sizes.

        Raises:
          PolicyError: the number of names, units or bounds differs from the number of dimensions.
        """
        for kind, size in (("observation", self.observation_size), ("action", self.action_size)):
            for name in ("names", "units", "low", "high"):
                found = len(getattr(self, f"{kind}_{name}"))
                optional = (kind, name) not in (("action", "low"), ("action", "high"))
                if found != size and not (optional and not found):
                    raise PolicyError(f"{kind}_{name} has {found} entries for {size} dimensions")

    def to_json(self) -> str:
        """Write the contract as one JSON object, ASCII, one line per field.

        Raises:
          PolicyError: the text is longer than `LARGEST_CONTRACT`, or a number is not finite.
        """
        content = {"format": FORMAT} | {one.name: getattr(self, one.name) for one in fields(self)}
        try:
            lines = [
                f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in content.items()
            ]
        except ValueError as error:
            raise PolicyError("a contract with a number that is not finite") from error
        text = "{\n" + ",\n".join(lines) + "\n}"
        if len(text) > LARGEST_CONTRACT:
            raise PolicyError(f"a contract of {len(text):,} bytes; at most {LARGEST_CONTRACT:,}")
        return text

    @classmethod
    def from_json(cls, text: str | bytes) -> "Contract":
        """Read a contract that `to_json` wrote, in this version or a later one.

        Keys that this version does not know are ignored.

        Raises:
          PolicyError: the text is too large or not JSON, or a field is missing or has a wrong type.
        """
        if len(text) > LARGEST_CONTRACT:
            raise PolicyError(f"it has {len(text):,} bytes; at most {LARGEST_CONTRACT:,}")
        try:
            content = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise PolicyError("it is no JSON") from error
        if not isinstance(content, dict):
            raise PolicyError("it is no JSON object")
        known = {}
        for one in fields(cls):
            if one.name in content:
                known[one.name] = _read(one.name, one.type, content[one.name])
        missing = [one for one in _NEEDED if one not in known]
        if missing:
            raise PolicyError(f"it has no {missing[0]!r}")
        return cls(**known)


_NEEDED = ("observation_size", "action_size", "action_low", "action_high")


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and math.isfinite(value)
    except OverflowError:  # an integer that is too large for a float
        return False


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_text(value: Any) -> bool:
    return type(value) is str


def _all(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: type(value) is list and all(map(of, value))


# Type of a field -> (check of a JSON value, the expected type in words, conversion).
_KINDS: dict[Any, tuple[Callable[[Any], bool], str, Callable[[Any], Any]]] = {
    int: (_is_count, "a count", int),
    int | None: (lambda v: v is None or _is_count(v), "a count", lambda v: v),
    float | None: (
        lambda v: v is None or _is_number(v),
        "a number",
        lambda v: None if v is None else float(v),
    ),
    str: (_is_text, "a text", str),
    tuple[float, ...]: (_all(_is_number), "a list of numbers", lambda v: tuple(map(float, v))),
    tuple[str, ...]: (_all(_is_text), "a list of texts", tuple),
    dict[str, str]: (
        lambda v: type(v) is dict and all(map(_is_text, v.values())),
        "an object of texts",
        dict,
    ),
}


def _read(name: str, kind: Any, value: Any) -> Any:
    fits, words, convert = _KINDS[kind]
    if not fits(value):
        raise PolicyError(f"{name!r} is not {words}: {json.dumps(value)[:60]}")
    return convert(value)
