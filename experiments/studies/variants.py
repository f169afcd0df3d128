"""Configs that differ from one in a field each."""

from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from tskd_jax.cli.sweep import changed, parse_values
from tskd_jax.config import Config, Options, finalize
from tskd_jax.errors import ConfigError


def variants(
    base: ConfigDict, arguments: Sequence[str], sections: Sequence[str]
) -> Iterator[tuple[str, tuple[Config, Options]]]:
    """(what is changed, its (final config, options)), the unchanged one first, no config twice.

    Args:
      base: a user's config.
      arguments: SECTION.FIELD=VALUE,VALUE,… each.
      sections: whose fields may be varied.

    Raises:
      ConfigError: an argument names no plain field of these sections, or no value of its kind.
    """
    yield "as configured", finalize(base)
    for argument in arguments:
        name, values = parse_values(base, argument)
        section, _, field = name.partition(".")
        if section not in sections:
            raise ConfigError(f"{argument}: a field of {' or '.join(sections)} is meant")
        for written, value in values.items():
            final = finalize(changed(base, {name: value}))
            if value != base.to_dict()[section][field]:
                yield f"{name}={written}", final
