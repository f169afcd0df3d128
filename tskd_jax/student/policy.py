"""The distilled policy. Loads and acts with NumPy alone, so that it runs where JAX does not."""

import itertools
import os
import zipfile
from dataclasses import dataclass

import numpy as np

from tskd_jax.errors import PolicyError

LARGEST_FILE = 256 * 2**20  # of an unpacked student; the paper's is 0.3 MB


@dataclass(frozen=True)
class Policy:
    """A multilayer perceptron: ReLU between layers, tanh and the action bound behind the last.

    Attributes:
      weights: (in, out) of each layer.
      biases: (out,) of each layer.
      action_bound: actions lie in [-bound, bound].
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    action_bound: float

    @property
    def parameters(self) -> int:
        """Numbers in the policy."""
        return sum(array.size for array in (*self.weights, *self.biases))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions (…, n) for observations (…, m), raw units."""
        x = np.asarray(observations, np.float32)
        if x.shape[-1:] != self.weights[0].shape[:1]:
            raise PolicyError(
                f"observations of shape {x.shape}; this policy takes (…, {len(self.weights[0])})"
            )
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0)
        return self.action_bound * np.tanh(x @ self.weights[-1] + self.biases[-1])


def save_policy(path: str | os.PathLike, policy: Policy) -> None:
    """Write a policy: arrays weight_0, bias_0, …, and action_bound. No pickle is involved."""
    arrays = {f"weight_{i}": array for i, array in enumerate(policy.weights)}
    arrays |= {f"bias_{i}": array for i, array in enumerate(policy.biases)}
    with open(path, "wb") as file:
        np.savez(file, action_bound=np.float32(policy.action_bound), **arrays)  # pyright: ignore[reportArgumentType]


def load_policy(path: str | os.PathLike) -> Policy:
    """The policy of a `student.npz`.

    Raises:
      PolicyError: the file is missing, damaged, or not a student.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > LARGEST_FILE:
                raise PolicyError(f"{path}: larger than any student; not loaded")
        with np.load(path, allow_pickle=False) as arrays:
            layers = sum(name.startswith("weight_") for name in arrays.files)
            weights = tuple(arrays[f"weight_{i}"] for i in range(layers))
            biases = tuple(arrays[f"bias_{i}"] for i in range(layers))
            bound = float(arrays["action_bound"])
    except PolicyError:
        raise
    except Exception as error:
        raise PolicyError(f"{path}: not a student file ({error})") from error
    fits = (
        layers > 0
        and all(
            w.ndim == 2 and w.dtype == b.dtype == np.float32
            for w, b in zip(weights, biases, strict=True)
        )
        and all(w.shape[1:] == b.shape for w, b in zip(weights, biases, strict=True))
        and all(a.shape[1] == b.shape[0] for a, b in itertools.pairwise(weights))
        and all(np.isfinite(array).all() for array in (*weights, *biases))
        and np.isfinite(bound)
    )
    if not fits:
        raise PolicyError(f"{path}: its layers do not fit together, or are not finite float32")
    return Policy(weights, biases, bound)
