"""OGBench's datasets, read with its package, which downloads them and computes a task's rewards."""

import contextlib
import io
from collections.abc import Mapping

import numpy as np

from tskd_jax.data.arrays import Columns
from tskd_jax.data.keys import ROLES, Keys, refuse
from tskd_jax.errors import DatasetError, first_line

PREFIX = "ogbench:"


def read(name: str, keys: Keys) -> Columns:
    """Read the training split of `NAME-singletask-v0` or `NAME-singletask-taskN-v0`.

    `episodes_of` determines the ends of episodes.

    Raises:
      DatasetError: the package is not installed, or cannot provide the dataset with rewards; or
        `keys` names an array: the package names them.
    """
    refuse(f"{PREFIX}{name}", keys, ROLES, "the package names its arrays; to choose, save them")
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
    except Exception as error:  # a failed download, an unknown name, or damaged files
        raise DatasetError(f"{PREFIX}{name}: {first_line(error)}") from error
    if "rewards" not in data:
        raise DatasetError(
            f"{PREFIX}{name}: has no rewards; take one of its tasks: NAME-singletask-v0"
        )
    names = ("observations", "actions", "rewards", "next_observations", "terminals", "masks")
    return Columns(episodes_of({key: np.asarray(data[key]) for key in names}))


def episodes_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Convert OGBench's `terminals` and `masks` to terminal states and ends of episodes.

    OGBench's `terminals` flag the ends of trajectories. Where the mask is 0, the task is done and
    an episode ends. The trajectory continues, and the task stays done in every step until the goal
    is left. Of such consecutive steps only the first is kept; otherwise each would be a perfect
    episode of one step.

    Args:
      arrays: arrays of N rows.

    Returns:
      The other arrays, `terminals` and `ends`, all with only the kept rows.
    """
    done, cut = arrays["masks"] == 0, arrays["terminals"] != 0
    stays = np.ones(len(done), bool)
    stays[1:] = ~(done[1:] & done[:-1] & ~cut[:-1])
    made = {key: array for key, array in arrays.items() if key != "masks"}
    made |= {"terminals": done, "ends": done | cut}
    return {key: array[stays] for key, array in made.items()}
