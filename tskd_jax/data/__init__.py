"""Datasets: trajectories, their files, normalisers and windows."""

from tskd_jax.data.load import load_dataset, resolve
from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.errors import DatasetError

__all__ = [
    "DatasetError",
    "Normalizer",
    "Trajectories",
    "fit_normalizer",
    "load_dataset",
    "resolve",
]
