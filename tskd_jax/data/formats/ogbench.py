"""OGBench's datasets through its package, which fetches them and computes the rewards of a task."""

import contextlib
import io
from collections.abc import Mapping

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.errors import DatasetError, first_line

PREFIX = "ogbench:"


def read(name: str) -> Columns:
    """The columns of the training part of `NAME-singletask-v0` or `NAME-singletask-taskN-v0`.

    An episode ends as `episodes_of` has it.

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
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "masks")
    return Columns(episodes_of({key: np.asarray(data[key]) for key in names}))


def episodes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """OGBench's `terminals` and `masks` as terminal states and ends of episodes.

    Its `terminals` are the ends of trajectories; where the mask is 0 the task is done, which ends
    an episode. A trajectory goes on from there, and is done in every step until it has left: of
    such steps in a row the first alone stays, or each would be a perfect episode of one step.

    Args:
      arrays: of N rows.

    Returns:
      the other arrays with the rows that stay, `terminals`, and `ends`.
    """
    done, cut = arrays["masks"] == 0, arrays["terminals"] != 0
    stays = np.ones(len(done), bool)
    stays[1:] = ~(done[1:] & done[:-1] & ~cut[:-1])
    made = {key: array for key, array in arrays.items() if key != "masks"}
    made |= {"terminals": done, "ends": done | cut}
    return {key: array[stays] for key, array in made.items()}
