"""Configs that differ from one in a field each."""

from collections.abc import Iterator, Sequence

from tskd_jax.config import check_name, finalize
from tskd_jax.errors import ConfigError
from tskd_jax.types import Config


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
        name, _, values = argument.partition("=")
        check_name(name)
        section, _, field = name.partition(".")
        if section not in sections:
            raise ConfigError(f"{argument}: a field of {' or '.join(sections)} is meant")
        kind = type(base[section][field])
        if kind not in (bool, int, float, str):
            raise ConfigError(f"{argument}: a {kind.__name__} cannot be varied")
        for value in values.split(","):
            changed: Config = base.copy_and_resolve_references()
            try:
                changed[section][field] = value == "True" if kind is bool else kind(value)
            except ValueError as error:
                raise ConfigError(f"{argument}: {value!r} is no {kind.__name__}") from error
            final = finalize(changed)
            if changed[section][field] != base[section][field]:
                yield f"{name}={value}", final
