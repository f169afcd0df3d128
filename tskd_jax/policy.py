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
class Bounds:
    """Between what actions lie, each dimension by itself.

    Attributes:
      low, high: (n,) raw units, low < high.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def symmetric(cls, bound: float, size: int) -> "Bounds":
        """±bound in each of `size` dimensions."""
        return cls((-bound,) * size, (bound,) * size)

    def stretch(self, x):
        """(…, n) in [-1, 1] to actions; of NumPy or JAX, single precision."""
        shape = (1,) * (x.ndim - 1) + (-1,)
        low, high = (np.array(end, np.float64).reshape(shape) for end in (self.low, self.high))
        return ((low + high) / 2).astype(np.float32) + ((high - low) / 2).astype(np.float32) * x

    def shrink(self, actions):
        """(…, n) actions to [-1, 1], the inverse of `stretch`; what lies outside is clipped."""
        shape = (1,) * (actions.ndim - 1) + (-1,)
        low, high = (np.array(end, np.float32).reshape(shape) for end in (self.low, self.high))
        return (2 * (actions - low) / (high - low) - 1).clip(-1, 1)

    def __str__(self) -> str:
        ends = set(zip(self.low, self.high, strict=True))
        if len(ends) > 1:
            return f"[{min(self.low):g} … {max(self.high):g}], by dimension"
        low, high = ends.pop()
        return f"±{high:g}" if low == -high else f"[{low:g}, {high:g}]"


@dataclass(frozen=True)
class Policy:
    """A multilayer perceptron: ReLU between layers, tanh behind the last, stretched to the bounds.

    Attributes:
      weights: (in, out) of each layer.
      biases: (out,) of each layer.
      bounds: of the actions.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    bounds: Bounds

    @property
    def parameters(self) -> int:
        """Numbers in the policy."""
        return sum(array.size for array in (*self.weights, *self.biases))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Actions (…, n) for observations (…, m), raw units.

        Raises:
          PolicyError: the observations are no arrays of m numbers, or one is not finite, as of a
            sensor that has failed.
        """
        size = len(self.weights[0])
        try:
            x = np.asarray(observations, np.float32)
        except (TypeError, ValueError) as error:
            raise PolicyError(
                f"observations that are a {type(observations).__name__}; this policy takes an "
                f"array (…, {size}): of what env.reset() gives the first part, of a Dict its "
                "parts side by side"
            ) from error
        if x.shape[-1:] != (size,):
            raise PolicyError(f"observations of shape {x.shape}; this policy takes (…, {size})")
        if not np.isfinite(x).all():
            bad = np.flatnonzero(~np.isfinite(x).all(tuple(range(x.ndim - 1))))
            raise PolicyError(
                f"observations that are not finite, in dimension {', '.join(map(str, bad))}; an "
                "action for them would mean nothing"
            )
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.maximum(x @ weight + bias, 0)
        return self.bounds.stretch(np.tanh(x @ self.weights[-1] + self.biases[-1]))


def save_policy(path: str | os.PathLike, policy: Policy) -> None:
    """Write a policy: arrays weight_0, bias_0, …, action_low and action_high, without pickle."""
    arrays = {f"weight_{i}": array for i, array in enumerate(policy.weights)}
    arrays |= {f"bias_{i}": array for i, array in enumerate(policy.biases)}
    for name, end in (("action_low", policy.bounds.low), ("action_high", policy.bounds.high)):
        arrays[name] = np.array(end, np.float32)
    with open(os.path.expanduser(path), "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_policy(path: str | os.PathLike) -> Policy:
    """The policy of a `student.npz`.

    Nothing is unpickled, and nothing is unpacked whose size was not looked at before.

    Raises:
      PolicyError: the file is missing, damaged, or not a student.
    """
    path = os.path.expanduser(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(info.file_size for info in members) > LARGEST_FILE or len(members) > MOST_ARRAYS:
                raise PolicyError(f"{path}: larger than any student; not loaded")
            arrays = {info.filename.removesuffix(".npy"): _read(archive, info) for info in members}
        layers = sum(name.startswith("weight_") for name in arrays)
        weights = tuple(arrays[f"weight_{i}"] for i in range(layers))
        biases = tuple(arrays[f"bias_{i}"] for i in range(layers))
        low, high = _ends(arrays, biases[-1].shape if biases else ())
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
        and low.shape == high.shape == biases[-1].shape
        and all(np.isfinite(end).all() for end in (low, high))
    )
    if not fits:
        raise PolicyError(f"{path}: its layers do not fit together, or are not finite float32")
    if not (low < high).all() or not _stays_finite(weights, biases):
        raise PolicyError(f"{path}: its numbers are no policy's: actions would not be finite")
    return Policy(weights, biases, Bounds(tuple(low.tolist()), tuple(high.tolist())))


def _ends(arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of the actions; files of earlier versions have one number for all dimensions."""
    if "action_bound" in arrays:
        bound = np.full(shape, float(arrays["action_bound"]))
        return -bound, bound
    low, high = (arrays[name].astype(np.float64) for name in ("action_low", "action_high"))
    return low, high


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
