"""tskd-jax fields

Every field of a config, with its values at each preset, range, meaning and source (docs/config.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tskd_jax.config import FIELDS, to_text
from tskd_jax.machine.signals import Request
from tskd_jax.presets import PRESETS


def main(argv: list[str], request: Request) -> int:
    """Run the command and return its exit status."""
    del request
    if any(word in ("--help", "-h") for word in argv[1:]):
        print((__doc__ or "").strip())
        return 0
    print(document(), end="")
    return 0


def document() -> str:
    """docs/config.md."""
    lines = ["| field | paper | small | quick | allowed | meaning |", "|---|---|---|---|---|---|"]
    for name, entry in FIELDS.items():
        values = [to_text(_preset_value(PRESETS[preset], name)) for preset in PRESETS]
        shown: Sequence[str] = [
            f"`{value}`" if value == values[0] else f"**`{value}`**" for value in values
        ]
        words = entry.metadata["allowed"].words.replace("|", "\\|")
        meaning = entry.metadata["meaning"]
        lines.append(f"| `{name}` | {' | '.join(shown)} | {words} | {meaning} |")
    table = "\n".join(lines)
    return (
        "# Every field of a config\n\nWritten by `tskd-jax fields > docs/config.md`. "
        "Set a field with `--config.FIELD=VALUE`.\nBold: differs from the paper's setting. The "
        f"environments set a few more (`tskd_jax/envs/tasks.py`).\n\n{table}\n"
    )


def _preset_value(preset: Mapping[str, Any], name: str) -> Any:
    section, _, key = name.rpartition(".")
    default = FIELDS[name].default
    return preset.get(section, {}).get(key, default) if section else preset.get(name, default)
