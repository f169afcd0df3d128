"""NPZ: the student's native format."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.policy import Policy, load_policy, save_policy

SUFFIX = ".npz"


def write(policy: Policy, contract: Contract | None) -> bytes:
    """The file's bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "student.npz")
        save_policy(path, policy, contract)
        return path.read_bytes()


def load(content: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(act, by): the policy, loaded with NumPy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "student.npz")
        path.write_bytes(content)
        return load_policy(path), f"NumPy {np.__version__}"
