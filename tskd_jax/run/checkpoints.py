"""Pytrees as folders (orbax), written atomically and loaded only if their checksum matches.

A folder is written under a temporary name, flushed to the disk and renamed. The caller keeps its
checksum elsewhere: a folder that a killed process left behind has none, and an altered folder has
another one.
"""

import errno
import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tskd_jax.errors import WorkdirError
from tskd_jax.run.files import make_folder, to_disk
from tskd_jax.run.progress import quiet_dependencies

# Bytes that orbax writes in addition to the numbers: per array (name, type, shape), per folder.
OF_ARRAY, OF_FOLDER = 1024, 65536


class Damaged(Exception):
    """A folder is not as it was written; the message says why, without the folder's name."""


def save(path: Path, tree: Any) -> str:
    """Write a pytree of nested dicts; returns the checksum of its files.

    Raises:
      WorkdirError: the folder cannot be written, for example because the disk is full.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        make_folder(path.parent)
        packed = jax.tree.map(_pack, tree)
        _check_room(aside, packed)
        _checkpointer().save(aside.absolute(), packed)
        for file in (*aside.rglob("*"), aside):
            to_disk(file)
        checksum = _checksum(aside)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(aside, path)
        to_disk(path.parent)
    except Exception as error:  # orbax's libraries raise errors of their own for a full disk
        shutil.rmtree(aside, ignore_errors=True)
        raise WorkdirError(
            f"{path}: cannot be written ({reason(error)}); make room, or choose another --workdir; "
            "the same command goes on from what was saved before"
        ) from error
    return checksum


def load(path: Path, checksum: str) -> Any:
    """Load the pytree of a folder, as nested dicts of arrays.

    Raises:
      Damaged: the folder is missing, cannot be read, or does not match the checksum.
    """
    if not path.is_dir():
        raise Damaged("it is missing")
    try:
        if _checksum(path) != checksum:
            raise Damaged("its checksum is wrong")
        return _unpack(_checkpointer().restore(path.absolute()))
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(f"it cannot be read ({reason(error)})") from error


def reason(error: Exception) -> str:
    """The cause of an error on one line, without the text that libraries add to known causes."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split())
    for known in ("No space left on device", "File too large", "Read-only file system"):
        if known in text:
            return known
    return text[:200] or type(error).__name__


def _checksum(folder: Path) -> str:
    """SHA-256 of the names and contents of all files in a folder."""
    sha = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        sha.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        if path.is_symlink():  # `save` creates none, and none is followed
            sha.update(f"link to {os.readlink(path)}".encode())
        elif path.is_file():
            with path.open("rb") as file:
                sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def _check_room(path: Path, tree: Any) -> None:
    """Raise OSError if the tree will not fit: orbax's threads would fill the screen with errors.

    The space is allocated and freed again, so that quotas and limits count, not only the free
    space.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    leaves = jax.tree.leaves(tree)
    size = sum(leaf.nbytes + OF_ARRAY for leaf in leaves) + OF_FOLDER
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # some file systems cannot allocate
            raise
    finally:
        path.unlink(missing_ok=True)


def _checkpointer():
    import orbax.checkpoint as ocp

    quiet_dependencies()
    # Errors that it raises become one line; its threads also log them with tracebacks.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    # Only the first process of a job writes and reads, so orbax must not wait for the others.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="first"
    )
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _pack(leaf: Any) -> Any:
    """Convert an array for orbax, which refuses empty arrays: their shape is stored instead."""
    leaf = np.asarray(leaf)
    if leaf.size:
        return leaf
    return {_EMPTY: np.asarray(leaf.shape, np.int64), "like": np.zeros(1, leaf.dtype)}


_EMPTY = "shape of an array without entries"


def _unpack(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if _EMPTY in tree:
        return np.zeros(tuple(tree[_EMPTY]), np.asarray(tree["like"]).dtype)
    return {key: _unpack(value) for key, value in tree.items()}
