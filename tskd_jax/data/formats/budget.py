"""Limits how much of a file may be read to the free memory."""

from tskd_jax.errors import DatasetError
from tskd_jax.machine import memory

# Memory to read an array, in multiples of its size: itself, its single-precision copy, and masks.
COPIES = 3


class Budget:
    """The number of bytes that may still be read: initially the free memory."""

    def __init__(self) -> None:
        self._left = memory.of_host()[0]

    def spend(self, size: int, what: str) -> None:
        """Subtract `size` bytes; `what` names their purpose in messages.

        Raises:
          DatasetError: fewer bytes are left.
        """
        if size > self._left:
            raise DatasetError(
                f"{what} takes about {memory.readable(size)} of memory, "
                f"{memory.readable(self._left)} are free; use a smaller file"
            )
        self._left -= size
