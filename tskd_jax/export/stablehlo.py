"""StableHLO: the student as a `jax.export` artifact for CPU, CUDA and TPU, any number of rows.

The function maps (batch, m) float32 to (batch, n). The format cannot store a contract, which is
written beside it as JSON.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.policy import Policy

SUFFIX = ".stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(policy: Policy, contract: Contract | None) -> bytes:
    """Serialize the student (`jax.export.Exported.serialize`)."""
    del contract
    import jax
    import jax.numpy as jnp

    rows, size = *jax.export.symbolic_shape("batch"), len(policy.weights[0])
    argument = jax.ShapeDtypeStruct((rows, size), jnp.float32)
    exported = jax.export.export(jax.jit(function(policy)), platforms=PLATFORMS)(argument)
    return bytes(exported.serialize())


def function(policy: Policy) -> Callable[[Any], Any]:
    """The student as a JAX function, (N, m) float32 -> (N, n), not yet jitted."""
    import jax
    import jax.numpy as jnp

    # By default, accelerators multiply with less than single precision.
    highest = jax.lax.Precision.HIGHEST

    def act(x: jax.Array) -> jax.Array:
        (center, half), (low, high) = policy.bounds.affine, policy.bounds.ends
        layers = list(zip(policy.weights, policy.biases, strict=True))
        for weight, bias in layers[:-1]:
            x = jnp.maximum(jnp.matmul(x, weight, precision=highest) + bias[None], 0)
        weight, bias = layers[-1]
        x = jnp.tanh(jnp.matmul(x, weight, precision=highest) + bias[None])
        # The last rounding may lead past a bound.
        return (center[None] + half[None] * x).clip(low[None], high[None])

    return act


def load(content: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(act, by): JAX on its default backend."""
    import jax

    exported = jax.export.deserialize(bytearray(content))
    return lambda x: np.asarray(exported.call(x)), f"JAX {jax.__version__} on {_device()}"


def beside(contract: Contract | None) -> dict[str, bytes]:
    """Suffix -> content of the files to write beside the student: its contract, if any."""
    return {".contract.json": contract.to_json().encode()} if contract else {}


def _device() -> str:
    import jax

    return jax.default_backend()
