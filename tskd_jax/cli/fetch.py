"""Fetches datasets by name, with a progress bar."""

import difflib
import sys
from pathlib import Path

from tqdm import tqdm

from tskd_jax.data.d4rl_files import FILES
from tskd_jax.data.download import download
from tskd_jax.data.load import resolve
from tskd_jax.errors import DatasetError, first_line


def get(name: str) -> Path:
    """The path of a dataset of D4RL or Minari, which is fetched if it is missing.

    Raises:
      DatasetError: the name is unknown, or the dataset cannot be fetched.
    """
    try:
        return resolve(name)
    except DatasetError:
        pass
    if name in FILES:
        bar = tqdm(unit="B", unit_scale=True, desc=FILES[name].file, disable=None)
        with bar:

            def on_progress(there: int, total: int | None) -> None:
                bar.total = total
                bar.update(there - bar.n)

            return download(
                FILES[name],
                on_progress=on_progress,
                report=lambda line: print(f"tskd-jax: {line}", file=sys.stderr),
            )
    if "/" in name:
        return _get_minari(name)
    near = ", ".join(difflib.get_close_matches(name, FILES, 3, 0.0))
    raise DatasetError(
        f"{name!r} is no dataset that can be fetched; the nearest of D4RL's are {near}; Minari's "
        "ids are such as mujoco/hopper/medium-v0"
    )


def _get_minari(name: str) -> Path:
    """Fetch a dataset with the package `minari`.

    Raises:
      DatasetError: the package is not installed, or cannot fetch the dataset.
    """
    try:
        import minari
    except ImportError as error:
        raise DatasetError(
            f"{name}: the package minari fetches it; pip install 'tskd_jax[minari]'"
        ) from error
    try:
        minari.download_dataset(name)
    except Exception as error:  # from the network, the hub, or a wrong id
        raise DatasetError(f"{name}: Minari cannot fetch it ({first_line(error)})") from error
    return resolve(name)
