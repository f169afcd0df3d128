"""Names for what Python's types cannot say."""

from typing import Any

# A pytree's leaf: a NumPy array on the host, a JAX array on the device, or what a tree map makes
# of it. Shapes and dtypes are in the docstrings, and checked at run time by the tests.
Leaf = Any

# A section of the config (ml_collections): its fields are described in `tskd_jax.config`.
Config = Any
