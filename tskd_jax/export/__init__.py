"""Exports a student to formats of other programs and machines, each tested against NumPy's actions.

A format is a module with `SUFFIX`, `write(policy, contract) -> bytes` and `load(content) -> (act,
by)`: `act` maps (N, m) float32 observations to (N, n) actions with the runtime that a user would
use, and `by` names that runtime. Libraries are imported lazily: a format needs only its own.
"""

import importlib
import importlib.util
from dataclasses import dataclass

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.errors import ExportError
from tskd_jax.export import proof
from tskd_jax.export.eight_bits import quantised
from tskd_jax.policy import Policy

# Name -> (module, packages that it needs besides NumPy, the extra that installs them).
FORMATS = {
    "npz": ("npz", (), ""),
    "onnx": ("onnx_model", ("onnx",), "onnx"),
    "c": ("c_header", (), ""),
    "tflite": ("tflite_model", ("ai_edge_litert", "flatbuffers"), "tflite"),
    "stablehlo": ("stablehlo", ("jax", "flatbuffers"), "stablehlo"),
}
EIGHT_BITS = ("onnx", "c", "tflite")  # formats that can store 8-bit weights


@dataclass(frozen=True)
class Exported:
    """An exported student, tested but not yet written.

    Attributes:
      files: suffix -> content; the first is the student, any others are written beside it.
      lines: the results of the test, in words.
    """

    files: dict[str, bytes]
    lines: tuple[str, ...]


def missing(format_: str) -> str:
    """The package that a format lacks and how to install it; "" if nothing is missing."""
    _, packages, extra = FORMATS[format_]
    for package in packages:
        if importlib.util.find_spec(package) is None:
            remedy = f"pip install 'tskd_jax[{extra}]'" if extra else f"pip install {package}"
            return f"{package.replace('_', '-')} is not installed: {remedy}"
    return ""


def export(
    format_: str, policy: Policy, contract: Contract | None, *, int8: bool = False
) -> Exported:
    """Export a student and test that it acts like the NumPy policy.

    Args:
      format_: one of `FORMATS`.
      policy: the student.
      contract: the contract to store with it, or None.
      int8: whether to store weights in 8 bits; only for `EIGHT_BITS`.

    Raises:
      ExportError: a library is missing, the format cannot store this student, or the exported
        student acts differently.
    """
    if problem := missing(format_):
        raise ExportError(f"{format_}: {problem}")
    if int8 and format_ not in EIGHT_BITS:
        raise ExportError(f"{format_}: has no int8; {', '.join(EIGHT_BITS)} have")
    module = importlib.import_module(f"{__name__}.{FORMATS[format_][0]}")
    observations = proof.some_observations(policy, contract)
    right, name, lines = policy, "NumPy", []
    if int8:
        right, name = quantised(policy), "NumPy with the same 8 bits"
        content = module.write(policy, contract, int8=True)
        lines.append(_cost(policy, right, observations, contract))
    else:
        content = module.write(policy, contract)
    act, by = module.load(content)
    found = proof.prove(right, act, observations, format_)
    beside = module.beside(contract) if hasattr(module, "beside") else {}
    lines = [f"run by {by}", *found.lines(name), *lines]
    return Exported({module.SUFFIX: content} | beside, tuple(lines))


def _cost(
    policy: Policy, rounded: Policy, observations: np.ndarray, contract: Contract | None
) -> str:
    """How much 8-bit weights change the action, per dimension, raw units, in words."""
    usual, where = proof.usual(observations, contract)
    error = np.abs(policy(usual).astype(np.float64) - rounded(usual))
    largest = ", ".join(f"{one:.2g}" for one in error.max(0))
    mean = ", ".join(f"{one:.2g}" for one in error.mean(0))
    return f"8 bits change the action by {mean} on average and {largest} at most ({where})"
