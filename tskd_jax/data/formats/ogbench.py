"""OGBench's datasets through its package, which fetches them and computes the rewards of a task."""

import contextlib
import io

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.errors import DatasetError, first_line

PREFIX = "ogbench:"


def read(name: str) -> Columns:
    """The columns of the training part of `NAME-singletask-v0` or `NAME-singletask-taskN-v0`.

    An episode ends with the package's `terminals`, and with each step whose mask is 0: there the
    task is done.

    Raises:
      DatasetError: the package is not installed, or cannot give that dataset with rewards.
    """
    try:
        import ogbench  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DatasetError(
            f"{PREFIX}{name} needs the package ogbench; pip install 'tskd_jax[ogbench]'"
        ) from error
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            environment, data, _ = ogbench.make_env_and_datasets(name)
            environment.close()
    except Exception as error:  # of the network, of the name, of its files
        raise DatasetError(f"{PREFIX}{name}: {first_line(error)}") from error
    if "rewards" not in data:
        raise DatasetError(
            f"{PREFIX}{name}: has no rewards; take one of its tasks: NAME-singletask-v0"
        )
    done = np.asarray(data["masks"]) == 0
    return Columns(
        {
            **{key: np.asarray(data[key]) for key in ("observations", "actions", "rewards")},
            "next_observations": np.asarray(data["next_observations"]),
            "terminals": done,
            "ends": done | (np.asarray(data["terminals"]) != 0),
        }
    )
