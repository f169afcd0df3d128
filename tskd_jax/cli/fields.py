"""tskd-jax fields

Lists every method, and every field of a config with its value at each preset, its range, meaning
and source (docs/config.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tskd_jax.cli.flags import parse_words
from tskd_jax.config import FIELDS, to_text
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.methods import METHODS
from tskd_jax.presets import PRESETS


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    _, words, shown = parse_words(argv, lambda _values: None, __doc__ or "")
    if shown:
        return 0
    if words:
        raise ConfigError(f"tskd-jax fields takes no words, and was given {words[0]!r}")
    print(document(), end="")
    return 0


def document() -> str:
    """The text of docs/config.md."""
    lines = ["| field | paper | small | quick | allowed | meaning |", "|---|---|---|---|---|---|"]
    for name, entry in FIELDS.items():
        values = [to_text(preset_value(PRESETS[preset], name)) for preset in PRESETS]
        shown: Sequence[str] = [
            f"`{value}`" if value == values[0] else f"**`{value}`**" for value in values
        ]
        words, meaning = (  # a bare | would end the cell
            text.replace("|", "\\|")
            for text in (entry.metadata["allowed"].words, entry.metadata["meaning"])
        )
        lines.append(f"| `{name}` | {' | '.join(shown)} | {words} | {meaning} |")
    table = "\n".join(lines)
    return (
        "# Every method, and every field of a config\n\n"
        "Written by `tskd-jax fields > docs/config.md`.\n\n"
        f"## Methods\n\n`--config.methods=NAME,NAME`: the others are compared with the last.\n\n"
        f"{_methods()}\n\n## Fields\n\n"
        "Set a field with `--config.FIELD=VALUE`. Bold: differs from the paper's setting. The "
        f"environments set\na few more (`tskd_jax/envs/entries.py`).\n\n{table}\n"
    )


def _methods() -> str:
    lines = ["| name | in tables | what it is | with parts switched off |", "|---|---|---|---|"]
    for name, method in METHODS.items():
        title = method.title_for(method.fields())
        variants = ", ".join(f"`{name}_{suffix}`" for suffix in method.variants)
        lines.append(f"| `{name}` | {title} | {method.summary} | {variants} |")
    return "\n".join(lines)


def preset_value(preset: Mapping[str, Any], name: str) -> Any:
    """The value of a field `section.field` in one of `PRESETS`."""
    section, _, key = name.rpartition(".")
    default = FIELDS[name].default
    return preset.get(section, {}).get(key, default) if section else preset.get(name, default)
