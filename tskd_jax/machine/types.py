"""Names for what Python's types cannot say."""

from typing import Any

# A pytree's leaf: a NumPy array on the host, a JAX array on the device, or whatever a tree map
# makes of it. Shapes and dtypes are in the docstrings; the tests check them at run time.
Leaf = Any
