"""How the scripts here show and keep what they measure."""

from pathlib import Path
from typing import Any

import jax

from tskd_jax.run import files


def device_name() -> str:
    """Kind and number of the devices that JAX sees."""
    return f"{jax.devices()[0].device_kind} × {jax.device_count()}"


def show(row: dict[str, Any]) -> None:
    """Print a row as soon as it is known."""
    print("  ".join(f"{name} {files.rounded(value)}" for name, value in row.items()), flush=True)


def write(table: list[dict[str, Any]], folder: str, name: str | None) -> Path:
    """Write a table as CSV, with the device and JAX's version in every row.

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
    files.write_csv(path.with_name(f"{path.name}.csv"), [row | about for row in table])
    return path
