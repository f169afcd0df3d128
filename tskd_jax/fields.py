"""Fields of a config, each declared with default, range and meaning next to the code that reads it.

A part declares its section as a frozen dataclass whose fields are made by `field`:

    @dataclass(frozen=True)
    class Config:
        radius: float = field(0.1, NOT_NEGATIVE, "ρ of Equation 11 (Appendix B: 0.1, 1 or 3)")

`tskd_jax.config` composes the sections and checks values against ranges; `tskd-jax fields` prints
docs/config.md from them.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Section = TypeVar("Section")
LARGEST = 2**31 - 1  # of whole numbers: accelerators count with int32


@dataclasses.dataclass(frozen=True)
class Allowed:
    """A set of allowed values: its description in words, and its check."""

    words: str
    check: Callable[[Any], bool]


def field(default: Any, allowed: Allowed, meaning: str) -> Any:
    """Declare a field of a section.

    Args:
      default: the paper's value; its type is the field's type.
      allowed: the values that the field may have.
      meaning: what the field means, with unit and source.
    """
    return dataclasses.field(default=default, metadata={"allowed": allowed, "meaning": meaning})


def restrict(section: Any, kind: type[Section]) -> Section:
    """Convert a section to one of its base classes: an instance with that class's fields only."""
    return kind(**{entry.name: getattr(section, entry.name) for entry in dataclasses.fields(kind)})


def one_of(options: Iterable[str]) -> Allowed:
    """One of the given words."""
    options = tuple(options)
    return Allowed(" | ".join(options), lambda value: value in options)


def at_least(low: float) -> Allowed:
    """Numbers of at least `low`."""
    return Allowed(f"≥ {low}", lambda value: value >= low)


def between(low: float, high: float) -> Allowed:
    """Numbers in the closed interval [low, high]."""
    return Allowed(f"{low} … {high}", lambda value: low <= value <= high)


def integers(low: int, words: str) -> Allowed:
    """A non-empty tuple of whole numbers, each at least `low`."""
    return Allowed(
        words,
        lambda values: len(values) > 0 and all(type(v) is int and v >= low for v in values),
    )


def as_number(value: Any, default: Any) -> Any:
    """Convert a number, or a tuple's, to Python's own of the default's type.

    1, 1.0 and NumPy's would otherwise give stages of equal configs different keys.
    """
    if isinstance(default, tuple):
        return tuple(as_number(one, default[0]) for one in value)
    return type(default)(value) if type(default) in (int, float) else value


ANY = Allowed("any", lambda value: True)
POSITIVE = Allowed("> 0", lambda value: value > 0)
COUNT = at_least(1)
NOT_NEGATIVE = at_least(0)
POSITIVE_SHARE = Allowed("0 < x ≤ 1", lambda value: 0 < value <= 1)
PROBABILITY = between(0, 1)
WIDTHS = integers(1, "whole numbers ≥ 1")
ODD = Allowed("odd", lambda value: value > 0 and value % 2 == 1)
EIGHTS = Allowed("a multiple of 8", lambda value: value > 0 and value % 8 == 0)
