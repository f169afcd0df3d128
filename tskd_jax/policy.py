"""The distilled policy. It loads and acts with NumPy alone, so that it runs without JAX.

Over 300 lines: half of it keeps damaged files out, and a robot needs both halves.
"""

import functools
import itertools
import math
import os
import zipfile
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from tskd_jax.contract import LARGEST_CONTRACT, Contract
from tskd_jax.errors import PolicyError

LARGEST_FILE = 256 * 2**20  # bytes of an unpacked student; the paper's has 0.3 MB
MOST_ARRAYS = 1000
LARGEST_STATE = 1e6  # no layer may overflow on observations within ± this
NAMES_SHOWN = 4  # names of observation dimensions that an error message lists


@dataclass(frozen=True)
class Bounds:
    """Bounds of the actions, per dimension.

    Attributes:
      low, high: (n,) raw units, low < high.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def symmetric(cls, bound: float, size: int) -> "Bounds":
        """±bound in each of `size` dimensions."""
        return cls((-bound,) * size, (bound,) * size)

    @functools.cached_property  # else a third of a policy's time for one observation
    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """(center, half-width), (n,) single precision: an action is center + half-width · x."""
        low, high = np.array(self.low, np.float64), np.array(self.high, np.float64)
        return ((low + high) / 2).astype(np.float32), ((high - low) / 2).astype(np.float32)

    @functools.cached_property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high), (n,) single precision."""
        return np.array(self.low, np.float32), np.array(self.high, np.float32)

    def stretch(self, x):
        """Map (…, n) in [-1, 1] to actions; NumPy or JAX arrays, single precision."""
        center, half = (end.reshape((1,) * (x.ndim - 1) + (-1,)) for end in self.affine)
        return center + half * x

    def shrink(self, actions):
        """Map (…, n) actions to [-1, 1], the inverse of `stretch`; clip those out of bounds."""
        low, high = (end.reshape((1,) * (actions.ndim - 1) + (-1,)) for end in self.ends)
        return (2 * (actions - low) / (high - low) - 1).clip(-1, 1)

    def __str__(self) -> str:
        ends = set(zip(self.low, self.high, strict=True))
        if len(ends) > 1:
            return f"[{min(self.low):g} … {max(self.high):g}], by dimension"
        low, high = ends.pop()
        return f"±{high:g}" if low == -high else f"[{low:g}, {high:g}]"


@dataclass(frozen=True)
class Policy:
    """A multilayer perceptron: ReLU between layers, tanh after the last, scaled to the bounds.

    Attributes:
      weights: (in, out) per layer.
      biases: (out,) per layer.
      bounds: bounds of the actions.
      contract: the contract of the file that the policy was loaded from, or None. It is not a
        dataclass field, so that it enters neither a stage's result nor the key of a stage.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    bounds: Bounds
    contract: ClassVar[Contract | None] = None

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(array.size for array in (*self.weights, *self.biases))

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Compute actions (…, n) for observations (…, m), raw units.

        Raises:
          PolicyError: the observations are not arrays of m numbers, or a number is not finite, e.g.
            because a sensor failed, or so large that the action would not be.
        """
        x = self._read(observations)
        if not np.isfinite(x).all():
            bad = np.flatnonzero(~np.isfinite(x).all(tuple(range(x.ndim - 1))))
            raise PolicyError(
                f"observations that are not finite, in dimension {', '.join(map(str, bad))}; an "
                "action for them would mean nothing"
            )
        actions = self._act(x)
        if not np.isfinite(actions).all():
            raise PolicyError(
                f"observations of up to {np.abs(x).max():.2g}, so large that an action for them "
                "would not be finite"
            )
        return actions

    def _read(self, observations: np.ndarray) -> np.ndarray:
        """The observations (…, m) in single precision; raises PolicyError if they are no such."""
        size = len(self.weights[0])
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is refused as such
                x = np.asarray(observations, np.float32)
        except (TypeError, ValueError) as error:
            raise PolicyError(
                f"observations that are a {type(observations).__name__}; this policy takes an "
                f"array (…, {size}){self._names()}: of what env.reset() gives the first part, of a "
                "Dict its parts side by side"
            ) from error
        if x.shape[-1:] != (size,):
            raise PolicyError(
                f"observations of shape {x.shape}; this policy takes (…, {size}){self._names()}"
            )
        return x

    def _act(self, x: np.ndarray) -> np.ndarray:
        """Actions (…, n); not finite where a sum overflows, which gives no warning."""
        with np.errstate(over="ignore", invalid="ignore"):
            for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
                x = np.maximum(x @ weight + bias, 0)
            actions = self.bounds.stretch(np.tanh(x @ self.weights[-1] + self.biases[-1]))
        # The last rounding may lead past a bound, which some environments refuse.
        low, high = self.bounds.ends
        return np.minimum(np.maximum(actions, low), high)

    def _names(self) -> str:
        """The first names of the observation's dimensions in parentheses; "" if none are known."""
        names = self.contract.observation_names if self.contract else ()
        if not names:
            return ""
        shown = ", ".join(" ".join(name.split()) for name in names[:NAMES_SHOWN])
        return f" ({shown}{', …' if len(names) > NAMES_SHOWN else ''})"


class RepeatingPolicy(Policy):
    """A policy that repeats the action of the last call where it cannot compute one.

    That is where an observation is not finite, or so large that the action would not be.
    """

    _last: ClassVar[np.ndarray | None] = None

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Compute actions (…, n); unusable rows repeat the action of the last call.

        Raises:
          PolicyError: as for `Policy`; a row is unusable, and the last call had another shape.
        """
        x = self._read(observations)
        usable = np.asarray(np.isfinite(x).all(-1))
        actions = self._act(np.where(usable[..., None], x, 0))
        usable = usable & np.isfinite(actions).all(-1)
        if not usable.all():
            if self._last is None or self._last.shape[:-1] != usable.shape:
                return super().__call__(x)  # raises the error
            actions = np.where(usable[..., None], actions, self._last)
        object.__setattr__(self, "_last", actions.copy())
        return actions


def save_policy(path: str | os.PathLike, policy: Policy, contract: Contract | None = None) -> None:
    """Write a policy as arrays weight_0, bias_0, …, action_low and action_high, without pickle.

    The contract is stored as JSON: an array `contract` of bytes.

    Raises:
      PolicyError: the contract has other sizes or bounds than the policy, or cannot be written.
    """
    arrays = {f"weight_{i}": array for i, array in enumerate(policy.weights)}
    arrays |= {f"bias_{i}": array for i, array in enumerate(policy.biases)}
    for name, end in (("action_low", policy.bounds.low), ("action_high", policy.bounds.high)):
        arrays[name] = np.array(end, np.float32)
    if contract:
        _check_contract(contract, policy)
        arrays["contract"] = np.frombuffer(contract.to_json().encode(), np.uint8)
    with open(os.path.expanduser(path), "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def load_policy(
    path: str | os.PathLike, on_invalid: Literal["error", "repeat"] = "error"
) -> Policy:
    """Load the policy of a `student.npz`, with the file's contract if it has one.

    Nothing is unpickled, and sizes are checked before anything is unpacked.

    Args:
      path: the file.
      on_invalid: what an observation that is not finite leads to: an error ("error"), or the last
        action again ("repeat", see `RepeatingPolicy`).

    Raises:
      PolicyError: the file is missing, damaged, or not a student, or `on_invalid` is unknown.
    """
    if on_invalid not in ("error", "repeat"):
        raise PolicyError(f"on_invalid={on_invalid!r}; one of 'error' and 'repeat'")
    path = os.path.expanduser(path)
    try:
        arrays = _arrays(path)
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
    within = all((np.abs(end) <= np.finfo(np.float32).max).all() for end in (low, high))
    if not within or not (low < high).all() or not _stays_finite(weights, biases):
        raise PolicyError(f"{path}: its numbers are no policy's: actions would not be finite")
    kind = RepeatingPolicy if on_invalid == "repeat" else Policy
    policy = kind(weights, biases, Bounds(tuple(low.tolist()), tuple(high.tolist())))
    if "contract" in arrays:
        object.__setattr__(policy, "contract", _contract(path, arrays["contract"], policy))
    return policy


def load_contract(path: str | os.PathLike) -> Contract | None:
    """Load the contract of a `student.npz`; None if it has none, like files of earlier versions.

    Raises:
      PolicyError: the file is not a student, or its contract is damaged or does not match it.
    """
    return load_policy(path).contract


def _contract(path: str, content: np.ndarray, policy: Policy) -> Contract:
    """Read the contract from an array of bytes and check that it matches the policy."""
    try:
        if content.dtype != np.uint8 or content.ndim != 1:
            raise PolicyError(f"{content.dtype} of shape {content.shape}, not bytes")
        contract = Contract.from_json(content[: LARGEST_CONTRACT + 1].tobytes())
        _check_contract(contract, policy)
    except PolicyError as error:
        raise PolicyError(f"{path}: its contract is damaged: {error}") from error
    return contract


def _check_contract(contract: Contract, policy: Policy) -> None:
    """Refuse a contract that does not match the policy.

    Raises:
      PolicyError: the sizes or bounds differ.
    """
    sizes = (contract.observation_size, contract.action_size)
    own = (len(policy.weights[0]), len(policy.biases[-1]))
    if sizes != own:
        raise PolicyError(f"a contract of sizes {sizes} for a policy of {own}")
    ends = ((contract.action_low, policy.bounds.low), (contract.action_high, policy.bounds.high))
    if not all(np.allclose(one, other, rtol=1e-6, atol=1e-30) for one, other in ends):
        raise PolicyError("a contract with other bounds than the policy's")


def _arrays(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of a file; refuse it unread if they are too many or too large together."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(info.file_size for info in members) > LARGEST_FILE or len(members) > MOST_ARRAYS:
            raise PolicyError(f"{path}: larger than any student; not loaded")
        return {info.filename.removesuffix(".npy"): _read(archive, info) for info in members}


def _ends(arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of the actions; files of earlier versions have one bound for all dimensions."""
    if "action_bound" in arrays:
        bound = np.full(shape, float(arrays["action_bound"]))
        return -bound, bound
    low, high = (arrays[name].astype(np.float64) for name in ("action_low", "action_high"))
    return low, high


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Read one array; its header must match the size of its zip member exactly."""
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
        if len(content) != size or file.read(1):  # at the end zipfile compares the checksum
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
