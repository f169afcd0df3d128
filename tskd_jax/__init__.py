"""TSKD: distil a conditional diffusion planner into a small policy by stitching trajectories.

The names below are imported on first use, so that `load_policy` needs only NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tskd_jax.contract import Contract
    from tskd_jax.data import DatasetError, Trajectories, load_dataset
    from tskd_jax.policy import Policy, PolicyError, load_contract, load_policy

__version__ = "0.1.0"

_HOMES = {
    "Contract": "tskd_jax.contract",
    "DatasetError": "tskd_jax.data",
    "Trajectories": "tskd_jax.data",
    "load_dataset": "tskd_jax.data",
    "Policy": "tskd_jax.policy",
    "PolicyError": "tskd_jax.policy",
    "load_contract": "tskd_jax.policy",
    "load_policy": "tskd_jax.policy",
}
__all__ = [
    "Contract",
    "DatasetError",
    "Policy",
    "PolicyError",
    "Trajectories",
    "__version__",
    "load_contract",
    "load_dataset",
    "load_policy",
]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tskd_jax' has no attribute {name!r}")
