"""The distilled policy. Loads and acts with NumPy alone, so that it runs where JAX does not."""

import itertools
import math
import os
import zipfile
from dataclasses import dataclass

import numpy as np

from tskd_jax.errors import PolicyError

LARGEST_FILE = 256 * 2**20  # of an unpacked student; the paper's is 0.3 MB
MOST_ARRAYS = 1000
LARGEST_STATE = 1e6  # up to which no layer may overflow


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

    Nothing is unpickled, and nothing is unpacked whose size was not looked at before.

    Raises:
      PolicyError: the file is missing, damaged, or not a student.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(info.file_size for info in members) > LARGEST_FILE or len(members) > MOST_ARRAYS:
                raise PolicyError(f"{path}: larger than any student; not loaded")
            arrays = {info.filename.removesuffix(".npy"): _read(archive, info) for info in members}
        layers = sum(name.startswith("weight_") for name in arrays)
        weights = tuple(arrays[f"weight_{i}"] for i in range(layers))
        biases = tuple(arrays[f"bias_{i}"] for i in range(layers))
        bound = float(arrays["action_bound"])
    except PolicyError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise PolicyError(f"{path}: not a student file ({reason})") from error
    fits = (
        layers > 0
        and all(
            w.ndim == 2 and w.dtype == b.dtype == np.float32
            for w, b in zip(weights, biases, strict=True)
        )
        and all(w.shape[1:] == b.shape for w, b in zip(weights, biases, strict=True))
        and all(a.shape[1] == b.shape[0] for a, b in itertools.pairwise(weights))
        and all(0 not in w.shape for w in weights)
        and all(np.isfinite(array).all() for array in (*weights, *biases))
        and np.isfinite(bound)
    )
    if not fits:
        raise PolicyError(f"{path}: its layers do not fit together, or are not finite float32")
    if bound <= 0 or not _stays_finite(weights, biases):
        raise PolicyError(f"{path}: its numbers are no policy's: actions would not be finite")
    return Policy(weights, biases, bound)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """One array, whose header must claim exactly what its member holds."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{info.filename} is of format {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "fiub" or min(shape, default=0) < 0:
            raise ValueError(f"{info.filename} holds {dtype}, not numbers")
        if file.tell() + size != info.file_size:
            raise ValueError(f"{info.filename} claims shape {shape}, but holds less or more")
        content = file.read(size)
        if len(content) != size or file.read(1):  # to its end, where the checksum is compared
            raise ValueError(f"{info.filename} claims shape {shape}, but holds less or more")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _stays_finite(weights: tuple[np.ndarray, ...], biases: tuple[np.ndarray, ...]) -> bool:
    """Whether no layer can overflow on states within ±LARGEST_STATE."""
    largest = np.full(weights[0].shape[0], LARGEST_STATE)
    for weight, bias in zip(weights, biases, strict=True):
        largest = largest @ np.abs(weight).astype(np.float64) + np.abs(bias)
        if not (largest < np.finfo(np.float32).max).all():
            return False
    return True
