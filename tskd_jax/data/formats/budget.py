"""Of how much a file may be read: no more than the memory that is free."""

from tskd_jax.errors import DatasetError
from tskd_jax.machine import memory

# Of reading, beside the array itself: conversion to single precision, masks.
COPIES = 3


class Budget:
    """What may still be read: the memory that is free."""

    def __init__(self) -> None:
        self._left = memory.of_host()[0]

    def spend(self, size: int, what: str) -> None:
        """Take so many bytes off.

        Raises:
          DatasetError: there are fewer.
        """
        if size > self._left:
            raise DatasetError(
                f"{what} takes about {memory.readable(size)} of memory, "
                f"{memory.readable(self._left)} are free; use a smaller file"
            )
        self._left -= size
