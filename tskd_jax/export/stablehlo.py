"""StableHLO: what `jax.export` keeps of a function, for CPU, CUDA and TPU, any number of rows.

The function takes (batch, m) float32 and gives (batch, n). It holds no contract: that stands beside
it, as JSON.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tskd_jax.contract import Contract
from tskd_jax.policy import Policy

SUFFIX = ".stablehlo"
PLATFORMS = ("cpu", "cuda", "tpu")


def write(policy: Policy, contract: Contract | None) -> bytes:
    """The bytes of `Exported.serialize`."""
    del contract
    import jax
    import jax.numpy as jnp

    rows, size = *jax.export.symbolic_shape("batch"), len(policy.weights[0])
    argument = jax.ShapeDtypeStruct((rows, size), jnp.float32)
    exported = jax.export.export(jax.jit(function(policy)), platforms=PLATFORMS)(argument)
    return bytes(exported.serialize())


def function(policy: Policy) -> Callable[[Any], Any]:
    """The student as a function of JAX, (N, m) float32 -> (N, n), to be compiled."""
    import jax
    import jax.numpy as jnp

    # Accelerators would else multiply with fewer bits than single precision has.
    highest = jax.lax.Precision.HIGHEST

    def act(x: jax.Array) -> jax.Array:
        center, half = policy.bounds.affine
        layers = list(zip(policy.weights, policy.biases, strict=True))
        for weight, bias in layers[:-1]:
            x = jnp.maximum(jnp.matmul(x, weight, precision=highest) + bias[None], 0)
        weight, bias = layers[-1]
        x = jnp.tanh(jnp.matmul(x, weight, precision=highest) + bias[None])
        return center[None] + half[None] * x

    return act


def load(content: bytes) -> tuple[Callable[[np.ndarray], np.ndarray], str]:
    """(what acts, by what)."""
    import jax

    exported = jax.export.deserialize(bytearray(content))
    return lambda x: np.asarray(exported.call(x)), f"JAX {jax.__version__} on {_device()}"


def beside(contract: Contract | None) -> dict[str, bytes]:
    """Suffix -> content of what stands beside the file."""
    return {".contract.json": contract.to_json().encode()} if contract else {}


def _device() -> str:
    import jax

    return jax.default_backend()
