"""Configs that differ from one in a field each, or in several."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from tskd_jax.config import check_name, finalize
from tskd_jax.errors import ConfigError
from tskd_jax.machine.types import Config


def variants(
    base: Config, arguments: Sequence[str], sections: Sequence[str]
) -> Iterator[tuple[str, Config]]:
    """(what is changed, the final config), the unchanged one first, no config twice.

    Args:
      base: from a config file, not yet final.
      arguments: SECTION.FIELD=VALUE,VALUE,… each.
      sections: whose fields may be varied.

    Raises:
      ConfigError: an argument names no plain field of these sections, or no value of its kind.
    """
    yield "as configured", finalize(base)
    for argument in arguments:
        name, values = _parse(base, argument, sections)
        section, _, field = name.partition(".")
        for told, value in values.items():
            final = finalize(_changed(base, {name: value}))
            if value != base[section][field]:
                yield f"{name}={told}", final


def grid(base: Config, arguments: Sequence[str]) -> list[tuple[dict[str, Any], Config]]:
    """(field -> value, the final config) for each combination of the values.

    Args:
      base: from a config file, not yet final.
      arguments: SECTION.FIELD=VALUE,VALUE,… each.

    Raises:
      ConfigError: an argument names no plain field, or no value of its kind, or anything twice; or
        a config would not be valid.
    """
    fields = {}
    for argument in arguments:
        name, values = _parse(base, argument, list(base))
        if name in fields:
            raise ConfigError(f"{argument}: {name} is there twice")
        if len(set(values.values())) < argument.count(",") + 1:
            raise ConfigError(f"{argument}: a value is there twice")
        fields[name] = values.values()
    points = [
        dict(zip(fields, point, strict=True)) for point in itertools.product(*fields.values())
    ]
    return [(point, finalize(_changed(base, point))) for point in points]


def _parse(base: Config, argument: str, sections: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(the field's name, its values by how they are written)."""
    name, _, values = argument.partition("=")
    check_name(name)
    section, _, field = name.partition(".")
    if section not in sections or not field:
        of = " or ".join(sections) if field else "a section"
        raise ConfigError(f"{argument}: a field of {of} is meant")
    kind = type(base[section][field])
    if kind not in (bool, int, float, str):
        raise ConfigError(f"{argument}: a {kind.__name__} cannot be varied")
    return name, {value: _read(argument, kind, value) for value in values.split(",")}


def _read(argument: str, kind: type, value: str) -> Any:
    try:
        return {"True": True, "False": False}[value] if kind is bool else kind(value)
    except (ValueError, KeyError) as error:
        raise ConfigError(f"{argument}: {value!r} is no {kind.__name__}") from error


def _changed(base: Config, fields: dict[str, Any]) -> Config:
    changed: Config = base.copy_and_resolve_references()
    for name, value in fields.items():
        section, _, field = name.partition(".")
        changed[section][field] = value
    return changed
