"""Reads arrays from HDF5 files of untrusted origin.

Nothing outside the file is read: links, external and virtual storage are refused. Before an array
is read, its declared size is compared with the free memory and with the stored bytes.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from tskd_jax.data.formats.budget import COPIES, Budget
from tskd_jax.errors import DatasetError, first_line
from tskd_jax.machine import memory

SUFFIXES = (".hdf5", ".h5")
# Filters in the package hdf5plugin, by their number in the HDF Group's registry.
PLUGINS = {
    307: "bzip2",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32026: "Blosc2",
}
# gzip compresses at most 1032 to 1. An array above MOST_PACKED was never written in full. Arrays of
# at most SMALL bytes are not checked.
MOST_PACKED, SMALL = 2000, 2**24


def may_be(path: Path) -> bool:
    """Whether a file is HDF5 by its name or content, or cannot be opened to see."""
    named = path.suffix.lower() in SUFFIXES
    return named or not os.access(path, os.R_OK) or bool(h5py.is_hdf5(path))


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading; errors of h5py inside the block become a DatasetError.

    Raises:
      DatasetError: the file is not HDF5 or is damaged, or another program is writing to it.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except Exception as error:  # h5py raises almost any type of error on a damaged file
        reason = first_line(error)
        if "unable to lock file" in reason or "already open for write" in reason:
            raise DatasetError(
                f"{path}: another program has it open for writing; wait until that is done, or "
                "read a copy"
            ) from error
        raise DatasetError(
            f"{path}: not a readable HDF5 file ({reason}); is it complete?"
        ) from error


class Reader:
    """Reads arrays of one open file.

    Args:
      path: path of the file, for messages.
      group: the open file, or a group of it.
      budget: memory budget, shared by all readers of one file.
    """

    def __init__(self, path: Path, group: h5py.Group, budget: Budget | None = None):
        self._path, self._group = path, group
        self._budget = budget or Budget()

    def has(self, key: str) -> bool:
        """Whether a key exists, possibly as a link; nothing is opened."""
        return self._group.get(key, getlink=True) is not None

    def arrays(self, depth: int = 2) -> list[str]:
        """Names of all arrays and links, as "group/key" inside groups, `depth` groups deep."""
        found = [key for key in self._group if not self._is_plain_group(key)]
        for key in self._group:
            if depth and self._is_plain_group(key):
                found += [f"{key}/{below}" for below in self.group(key).arrays(depth - 1)]
        return found

    def _is_plain_group(self, key: str) -> bool:
        link = self._group.get(key, getlink=True)
        return isinstance(link, h5py.HardLink) and self._group.get(key, getclass=True) is h5py.Group

    def is_group(self, key: str) -> bool:
        """Whether a key exists and is a group.

        Raises:
          DatasetError: the key is a link.
        """
        if not self.has(key):
            return False
        self._refuse_link(key)
        return isinstance(self._group[key], h5py.Group)

    def group(self, key: str) -> "Reader":
        """A reader of an existing group."""
        return Reader(self._path, self._group[key], self._budget)

    def names(self) -> list[str]:
        """Names of the keys directly below."""
        return list(self._group)

    def texts(self, key: str, attribute: str) -> tuple[str, ...]:
        """The texts of an attribute of an existing key; () if it is missing or anything else."""
        self._refuse_link(key)
        found = self._group[key].attrs.get(attribute)
        given = found.tolist() if isinstance(found, np.ndarray) and found.ndim == 1 else []
        return tuple(given) if all(isinstance(one, str) for one in given) else ()

    def array(self, key: str, rank: int) -> np.ndarray:
        """Read the array of an existing key.

        Rank 1 also accepts (N, 1), which is flattened; rank 0 accepts ranks 1 and 2.

        Raises:
          DatasetError: the key is a link, not an array, not numeric, of another rank, stored in
            another file, compressed by a filter that is not installed, or larger than its stored
            bytes or the memory allow.
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
        self._refuse_filters(node, name)
        shape = list(node.shape or ())
        fits = {
            0: len(shape) in (1, 2),
            1: len(shape) == 1 or (len(shape) == 2 and shape[1] == 1),
            2: len(shape) == 2,
        }
        if not fits[rank]:
            expected = ("(N,) or (N, size)", "(N,) or (N, 1)", "(N, size)")[rank]
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

    def _refuse_filters(self, node: h5py.Dataset, name: str) -> None:
        creation = node.id.get_create_plist()
        for index in range(creation.get_nfilters()):
            code, _, _, said = creation.get_filter(index)
            if not h5py.h5z.filter_avail(code):
                with contextlib.suppress(ImportError):  # importing it registers filters
                    import hdf5plugin  # noqa: F401  # pyright: ignore[reportMissingImports]
            if not h5py.h5z.filter_avail(code):
                title = PLUGINS.get(code) or said.decode(errors="replace") or "unknown"
                raise DatasetError(
                    f"{self._path}: {name} is compressed by filter {code} ({title}), which is not "
                    "installed; `pip install hdf5plugin`, or write the file anew with gzip: "
                    "`h5repack -f GZIP=4 IN OUT`"
                )

    def name(self, key: str) -> str:
        """The description of a key in messages."""
        return f"key {f'{self._group.name}/{key}'.lstrip('/')!r}"

    def _refuse_link(self, key: str) -> None:
        if not isinstance(self._group.get(key, getlink=True), h5py.HardLink):
            raise DatasetError(
                f"{self._path}: {self.name(key)} is a link; copy the data itself into the file"
            )
