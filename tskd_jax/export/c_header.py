"""C: a single header with code and weights, for C99 and C++, without memory allocation.

With `int8`, weights are quantised by `eight_bits`: 77 kB for the paper's student instead of 280.
"""

import ctypes
import hashlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tskd_jax import __version__
from tskd_jax.contract import Contract
from tskd_jax.errors import ExportError
from tskd_jax.export import c_text
from tskd_jax.export.eight_bits import levels_of, quantised
from tskd_jax.policy import Policy

SUFFIX = ".h"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-O2", "-fPIC", "-shared")
VECTORS = 8  # test cases in the header's self-test
LARGEST = 2_000_000  # parameters; as text they have 32 MB, which takes half a minute to compile


def write(policy: Policy, contract: Contract | None, *, int8: bool = False) -> bytes:
    """Write the header, as ASCII text.

    Args:
      policy: the student, in full precision.
      contract: the contract, written as a comment in the header.
      int8: whether to store weights in 8 bits.

    Raises:
      ExportError: the student is too large for a text.
    """
    if policy.parameters > LARGEST:
        raise ExportError(f"c: {policy.parameters:,} parameters; a header has at most {LARGEST:,}")
    right = quantised(policy) if int8 else policy
    sizes = [len(policy.weights[0]), *(len(bias) for bias in policy.biases)]
    observations = np.random.default_rng(1).normal(size=(VECTORS, sizes[0])).astype(np.float32)
    observations[0] = 0
    parameters = [
        c_text.define("OBSERVATIONS", sizes[0]),
        c_text.define("ACTIONS", sizes[-1]),
        c_text.define("PARAMETERS", policy.parameters),
        c_text.define("WIDEST", max(sizes[1:])),
    ]
    hz = contract.control_hz if contract else None
    single = np.finfo(np.float32)
    # One that is no C literal is in the comment alone.
    if hz and float(single.tiny) <= hz <= float(single.max):
        parameters.append(c_text.define("CONTROL_HZ", c_text.number(hz)))
    arrays = []
    for place, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        if int8:
            levels, inputs, outputs = levels_of(weight)
            arrays.append(c_text.array(f"weight_{place}", levels))
            arrays.append(c_text.array(f"in_{place}", inputs))
            arrays.append(c_text.array(f"out_{place}", outputs))
        else:
            arrays.append(c_text.array(f"weight_{place}", weight))
        arrays.append(c_text.array(f"bias_{place}", bias))
    places = zip(("center", "half_width"), policy.bounds.affine, strict=True)
    ends = zip(("low", "high"), policy.bounds.ends, strict=True)
    arrays += [c_text.array(name, values) for name, values in (*places, *ends)]
    vectors = [
        c_text.array("test_observation", observations),
        c_text.array("test_action", right(observations)),
    ]
    buffers = "yx"[: len(policy.weights)]
    text = c_text.HEADER.substitute(
        what=f"{policy.parameters} parameters, tskd_jax {__version__}",
        numbers="8 bits, with scales" if int8 else "single precision",
        contract=c_text.comment(contract.to_json() if contract else "none"),
        mark=hashlib.sha256("\n".join((*parameters, *arrays)).encode()).hexdigest()[:16].upper(),
        defines="\n".join(parameters),
        stack=len(buffers) * 4 * max(sizes[1:]),
        buffers=", ".join(f"{one}[{c_text.PREFIX.upper()}WIDEST]" for one in buffers),
        arrays="\n".join(arrays),
        weight="int8_t" if int8 else "float",
        scales=" const float *in, const float *out," if int8 else "",
        value="x[i] * in[i]" if int8 else "x[i]",
        sum="y[j] * out[j]" if int8 else "y[j]",
        layers="\n".join(_calls(sizes, int8)),
        result=buffers[(len(policy.weights) - 1) % 2],
        vectors="\n".join(vectors),
        count=VECTORS,
    )
    return text.encode("ascii")


def _calls(sizes: list[int], int8: bool) -> list[str]:
    """The calls of the layers; activations alternate between two buffers."""
    lines, source = [], "observation"
    for place, (size, count) in enumerate(itertools.pairwise(sizes)):
        target = "yx"[place % 2]
        kinds = ("weight", *(("in", "out") if int8 else ()), "bias")
        arrays = ", ".join(f"{c_text.PREFIX}{kind}_{place}" for kind in kinds)
        lines.append(f"    {c_text.PREFIX}layer({arrays}, {size}, {count}, {source}, {target});")
        if place < len(sizes) - 2:
            lines.append(f"    {c_text.PREFIX}relu({count}, {target});")
        source = target
    return lines


def load(content: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(act, by): the compiled header, or, without a C compiler, NumPy with the header's numbers.

    Raises:
      ExportError: the header does not compile, or its self-test fails.
    """
    compiler = find_compiler()
    if compiler is None:
        return c_text.read_back(content.decode()), (
            "NumPy with the numbers of the header: it was not compiled, as there is no C compiler"
        )
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    act = compiled(content, compiler)
    return act, f"{' '.join(version.splitlines()[0].split())[:60]}" if version else compiler


def find_compiler() -> str | None:
    """The path of a C compiler: the environment variable CC, else one of `COMPILERS`, else None."""
    for name in (os.environ.get("CC", ""), *COMPILERS):
        if name and (found := shutil.which(name)):
            return found
    return None


def compiled(
    content: bytes, compiler: str, flags: tuple[str, ...] = FLAGS
) -> Callable[[np.ndarray], np.ndarray]:
    """Compile the header; returns a function of (N, m) observations.

    Raises:
      ExportError: the header does not compile, or its self-test fails. The function raises it if
        the header refuses an observation.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "policy.h").write_bytes(content)
        source, library = Path(folder, "policy.c"), Path(folder, "policy.so")
        source.write_text(c_text.LIBRARY)
        command = [compiler, *flags, str(source), "-o", str(library), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line] or ["?"]
            raise ExportError(f"c: {compiler} does not compile it: {lines[0]}")
        loaded = ctypes.CDLL(str(library))
    if failed := loaded.self_test():
        raise ExportError(f"c: compiled by {compiler}, its own test {failed} fails")
    size, count = loaded.observations(), loaded.actions()

    def act(observations: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(observations, np.float32)
        actions = np.zeros((len(x), count), np.float32)
        assert x.shape[1:] == (size,)
        pointers = (ctypes.c_void_p(one.ctypes.data) for one in (x, actions))
        if refused := loaded.act(*pointers, ctypes.c_long(len(x))):
            raise ExportError(f"c: refuses observation {refused - 1}")
        return actions

    return act
