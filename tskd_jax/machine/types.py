"""Type aliases for what Python's type system cannot express."""

from typing import Any

# A pytree's leaf: a NumPy array on the host, a JAX array on the device, or any result of a tree
# map. Shapes and dtypes are in the docstrings; the tests check them at run time.
Leaf = Any
