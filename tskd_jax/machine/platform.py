"""The platform that a program is compiled for; all code that depends on it asks here.

A program may be lowered for another platform than that of this machine's devices (by
`jax.experimental.topologies`): code that is traced within `lowering_for(name)` targets `name`.
"""

import jax

# Empty: JAX's default backend. As a JAX user context, it is part of the key of cached programs.
lowering_for = jax.make_user_context(default_value="")


def platform() -> str:
    """The platform that programs are traced for: `cpu`, `gpu` (as JAX names CUDA's) or `tpu`."""
    return lowering_for.value or jax.default_backend()


def is_cpu() -> bool:
    """Whether programs are traced for a CPU."""
    return platform() == "cpu"
