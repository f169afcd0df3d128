"""For which platform a program is compiled. What depends on that asks here.

A program may be lowered for another platform than that of this machine's devices (by
`jax.experimental.topologies`): what is traced within `lowering_for(name)` has the form for it.
"""

import jax

# Empty: for JAX's default backend. JAX knows it as a part of the key under which it keeps programs.
lowering_for = jax.make_user_context(default_value="")


def platform() -> str:
    """The platform that programs are traced for: `cpu`, `gpu` (as JAX names CUDA's) or `tpu`."""
    return lowering_for.value or jax.default_backend()


def is_cpu() -> bool:
    """Whether it is a CPU."""
    return platform() == "cpu"
