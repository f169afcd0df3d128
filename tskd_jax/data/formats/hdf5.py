"""Arrays out of an HDF5 file that may come from anywhere.

Nothing outside the file is read (links, external and virtual storage are refused), and what an
array says of its size is compared with the machine's memory and with the file before it is read.
"""

import math
from pathlib import Path

import h5py
import numpy as np

from tskd_jax.errors import DatasetError
from tskd_jax.machine import memory

# Of reading, beside the array itself: conversion to single precision, masks.
COPIES = 3
# gzip packs at most 1032 to 1. What claims more of its stored bytes claims what was never written.
MOST_PACKED, SMALL = 2000, 2**24


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


class Reader:
    """Reads arrays of one open file.

    Args:
      path: of the file, for messages.
      group: the open file, or a group of it.
      budget: shared by all that is read of one file.
    """

    def __init__(self, path: Path, group: h5py.Group, budget: Budget | None = None):
        self._path, self._group = path, group
        self._budget = budget or Budget()

    def has(self, key: str) -> bool:
        """Whether there is a key of that name, a link included; nothing is opened."""
        return self._group.get(key, getlink=True) is not None

    def is_group(self, key: str) -> bool:
        """Whether there is a group of that name.

        Raises:
          DatasetError: it is a link.
        """
        if not self.has(key):
            return False
        self._refuse_link(key)
        return isinstance(self._group[key], h5py.Group)

    def group(self, key: str) -> "Reader":
        """The group of that name, which is there."""
        return Reader(self._path, self._group[key], self._budget)

    def array(self, key: str, rank: int) -> np.ndarray:
        """The numbers of a key that is there; (N, 1) is taken for rank 1.

        Raises:
          DatasetError: it is a link, no array, not of numbers, of another rank, stored elsewhere,
            or larger than can be.
        """
        name = self.name(key)
        self._refuse_link(key)
        node = self._group[key]
        if not isinstance(node, h5py.Dataset):
            raise DatasetError(f"{self._path}: {name} is a group, not an array")
        if node.dtype.kind not in "fiub":
            raise DatasetError(f"{self._path}: {name} holds {node.dtype}, not numbers")
        if node.is_virtual or node.external:
            raise DatasetError(
                f"{self._path}: {name} is stored in another file; copy the data itself into this "
                "one"
            )
        shape = list(node.shape or ())
        if len(shape) not in (rank, 2) or (rank == 1 and len(shape) == 2 and shape[1] != 1):
            expected = "(N,) or (N, 1)" if rank == 1 else "(N, size)"
            raise DatasetError(
                f"{self._path}: {name} has shape {tuple(shape)}, expected {expected}"
            )
        size = math.prod(shape) * node.dtype.itemsize
        stored = node.id.get_storage_size()
        if size > SMALL and size > MOST_PACKED * stored:
            raise DatasetError(
                f"{self._path}: {name} claims shape {tuple(shape)}, {memory.readable(size)}, but "
                f"the file holds {memory.readable(stored)} of it; is it complete?"
            )
        self._budget.spend(COPIES * size, f"{self._path}: {name} of shape {tuple(shape)}")
        return node[()].reshape(shape[0]) if rank == 1 else node[()]

    def name(self, key: str) -> str:
        """How messages name a key."""
        return f"key {f'{self._group.name}/{key}'.lstrip('/')!r}"

    def _refuse_link(self, key: str) -> None:
        if not isinstance(self._group.get(key, getlink=True), h5py.HardLink):
            raise DatasetError(
                f"{self._path}: {self.name(key)} is a link; copy the data itself into the file"
            )
