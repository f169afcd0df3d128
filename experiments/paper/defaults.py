"""The values in a document's tables of fields: `docs/paper-to-code.md`.

    python -m experiments.paper.defaults docs/paper-to-code.md

In every table with a column `field`, the columns `paper`, `small` and `quick`, where it has them,
are filled with what the fields of that row are at that preset. `*.steps` is that field of every
section which has one. All other cells are left as they are.
"""

import re
from pathlib import Path
from typing import Any

from absl import app

from tskd_jax.cli.fields import preset_value
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.config import FIELDS
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Request
from tskd_jax.presets import PRESETS

COLUMNS = {f"`{preset}`": preset for preset in PRESETS}


def fill(text: str) -> str:
    """The Markdown text with its values as the code has them.

    Raises:
      ConfigError: a row names a field that does not exist.
    """
    lines, header = text.split("\n"), []
    for index, line in enumerate(lines):
        if not line.startswith("|"):
            header = []
        elif not header:
            header = _cells(line)
        elif "field" in header and set(header) & set(COLUMNS) and not line.startswith("|---"):
            cells = _cells(line)
            fields = fields_of(cells[header.index("field")])
            for place, title in enumerate(header):
                if title in COLUMNS:
                    cells[place] = _shown(fields, COLUMNS[title])
            lines[index] = f"| {' | '.join(cells)} |".replace("|  |", "| |")
    return "\n".join(lines)


def fields_of(cell: str) -> list[str]:
    """The fields that a cell names in backticks; `*.NAME` is NAME of every section.

    Files, which have a slash, and what stands behind "none: " are code and no fields.

    Raises:
      ConfigError: there is no such field.
    """
    found = []
    if cell.startswith("none"):  # code, and no field
        return found
    for name in re.findall(r"`([a-z_*][a-z0-9_.*]*)`", cell):
        if name.startswith("*."):
            matching = [field for field in FIELDS if field.endswith(name[1:])]
        else:
            matching = [name] if name in FIELDS else []
        if not matching:
            raise ConfigError(f"{name!r} is no field (tskd-jax fields lists them)")
        found += matching
    return found


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def _shown(fields: list[str], preset: str) -> str:
    """Values of one name are given once where sections agree: `a.steps`, `b.steps`."""
    by_name: dict[str, list[str]] = {}
    for field in fields:
        value = _text(preset_value(PRESETS[preset], field))
        values = by_name.setdefault(field.rpartition(".")[2], [])
        if value not in values:
            values.append(value)
    return "; ".join(", ".join(values) for values in by_name.values()) or "–"


def _text(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, tuple) and not isinstance(value[0], str)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return f"`{','.join(value) if isinstance(value, tuple) else value}`"


def main(argv: list[str]) -> int:
    def write(_request: Request) -> int:
        for name in argv[1:]:
            path = Path(name)
            path.write_text(fill(path.read_text()))
        return 0

    return run_to_exit_status(write)


if __name__ == "__main__":
    app.run(main)
