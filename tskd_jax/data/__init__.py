"""Datasets: trajectories, file formats, normalisers and windows."""

from tskd_jax.data.checks import DatasetChecks
from tskd_jax.data.formats.d4rl import write as save_d4rl
from tskd_jax.data.keys import Keys
from tskd_jax.data.load import load_dataset, resolve
from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError

__all__ = [
    "DatasetChecks",
    "DatasetError",
    "Keys",
    "Normalizer",
    "Trajectories",
    "fit_normalizer",
    "load_dataset",
    "resolve",
    "save_d4rl",
]
