"""How the scripts here show and keep what they measure."""

import csv
from pathlib import Path
from typing import Any

import jax

from tskd_jax.errors import ConfigError
from tskd_jax.machine import devices
from tskd_jax.run import files

device_name = devices.described


def show(row: dict[str, Any]) -> None:
    """Print a row as soon as it is known."""
    print("  ".join(f"{name} {files.rounded(value)}" for name, value in row.items()), flush=True)


def score_text(row: dict[str, Any]) -> str:
    """The mean of a row, with its standard error where there are several seeds."""
    mean = f"{row['mean']:.1f}"
    return f"{mean} ± {row['stderr']:.1f}" if row["seeds"] > 1 else mean


def write(table: list[dict[str, Any]], folder: str, name: str | None) -> Path:
    """Write a table as CSV, with the device and JAX's version in every row that has none yet.

    Args:
      table: rows with the same columns.
      folder: made where it is missing.
      name: of the file, without an ending; None: the device's kind.

    Returns:
      The file's path without its ending, for what else belongs beside it.
    """
    kind = jax.devices()[0].device_kind.replace(" ", "-").lower()
    path = Path(folder) / (name or kind)
    about = {"device": device_name(), "jax": jax.__version__}
    rows = [row | {name: row.get(name, value) for name, value in about.items()} for row in table]
    files.write_csv(path.with_name(f"{path.name}.csv"), rows)
    return path


def read(path: str | Path) -> list[dict[str, Any]]:
    """The rows that `write` has written, numbers as numbers.

    Raises:
      ConfigError: there is no such file.
    """
    try:
        with open(path, newline="") as file:
            return [
                {name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)
            ]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
