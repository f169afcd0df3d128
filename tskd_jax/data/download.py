"""Downloads D4RL's files on request: resumes and checks them, and only then renames them."""

import contextlib
import errno
import fcntl
import http.client
import json
import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tskd_jax.data.d4rl_files import D4rlFile, local_folder
from tskd_jax.data.formats.hdf5 import Reader, open_file
from tskd_jax.data.load import content_hash
from tskd_jax.errors import DatasetError
from tskd_jax.machine.memory import readable

LOCK = "downloads.lock.json"  # the hashes of files, to which later downloads are held
IN_USE = ".downloads.in_use"  # locked by the process that downloads
TRIES, PATIENCE = 4, 60.0  # tries per mirror; timeout in seconds without data
CHUNK = 2**20
PASSING = (408, 425, 429, 500, 502, 503, 504)  # temporary HTTP errors, worth another try
# Of the network, beside those that Python calls a ConnectionError; all others are of the disk.
NETWORK = (errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH)

Progress = Callable[[int, int | None], None]  # (bytes received, total bytes if known)


class _Unsuitable(Exception):
    """This mirror cannot provide the file; another one may."""


def download(
    wanted: D4rlFile,
    *,
    folder: Path | None = None,
    urls: Sequence[str] | None = None,
    on_progress: Progress = lambda there, total: None,
    report: Callable[[str], None] = lambda line: None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download a dataset into D4RL's folder; an existing file is left as it is.

    An interrupted download resumes, as long as the mirror has the same file. The file gets its
    final name only if its size is the one that the mirror announced, its SHA-256 is that of the
    table or of the first verified download (which writes `downloads.lock.json`), it is a readable
    HDF5 file with D4RL's keys, and its number of episodes is the published one. Only one process
    downloads into a folder at a time; others wait for it.

    Args:
      wanted: an entry of `d4rl_files.FILES`.
      folder: where to put the file; by default D4RL's folder.
      urls: addresses to try; by default all mirrors.
      on_progress: called as bytes arrive.
      report: called with a line for each mirror that fails, and before waiting for a process.
      wait: called with the seconds to wait between tries.

    Returns:
      The path of the file.

    Raises:
      DatasetError: no mirror has the file, it is not the expected one, or the disk has no room for
        it.
    """
    folder = local_folder() if folder is None else folder
    path = folder / wanted.file
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be made: {error.strerror}") from error
    problems = []
    with _alone(folder, report):
        if path.exists():  # another process has fetched it in the meantime
            return path
        for url in urls or wanted.urls():
            try:
                partial = _fetch(url, path, on_progress, wait)
                found = _check(partial, path, wanted)
                _to_disk(partial)
                os.replace(partial, path)
                _note_of(path).unlink(missing_ok=True)
                _remember(path, url, found)
                return path
            except _Unsuitable as problem:
                problems.append(f"{url}: {problem}")
                report(problems[-1])
            except OSError as error:  # from the disk: `_fetch` catches those of the network
                raise DatasetError(
                    f"{path}: cannot be written: {error.strerror}; mend that, and the same command "
                    "goes on where it was"
                ) from error
    raise DatasetError(
        f"{wanted.name} could not be fetched ({'; '.join(problems)}); bring {wanted.file} from "
        f"elsewhere and put it into {folder}, or use the embedded data (--config=hopper)"
    )


@contextlib.contextmanager
def _alone(folder: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process downloads into a folder, and keep others out."""
    try:
        file = (folder / IN_USE).open("a")
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error.strerror}; mend that") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"{folder}: another process downloads into it; waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # this file system has no locks
        yield


def _fetch(url: str, path: Path, on_progress: Progress, wait: Callable[[float], None]) -> Path:
    """Download the whole file next to its final path; returns the temporary path."""
    partial = path.with_name(f".{path.name}.partial")
    for attempt in range(TRIES):
        if attempt:
            wait(2.0**attempt)
        try:
            if _receive(url, path, partial, on_progress):
                return partial
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the server has no bytes to add: the partial file is another's
                partial.unlink(missing_ok=True)
            elif error.code not in PASSING:
                raise _Unsuitable(f"HTTP {error.code} {error.reason}") from error
            problem = f"HTTP {error.code} {error.reason}"
        except (
            *(urllib.error.URLError, http.client.HTTPException, TimeoutError),
            ssl.SSLError,  # the connection ended in the middle of a record
        ) as error:
            reason = getattr(error, "reason", None)
            if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
                raise _Unsuitable(f"{reason.strerror}; is there a network?") from error
            problem = str(getattr(error, "reason", "") or error or type(error).__name__)
        except OSError as error:
            if not isinstance(error, ConnectionError) and error.errno not in NETWORK:
                raise
            problem = str(error.strerror or error)
        else:
            problem = "the connection ended early"
    raise _Unsuitable(f"{problem} ({TRIES} tries)")


def _receive(url: str, path: Path, partial: Path, on_progress: Progress) -> bool:
    """Receive the missing bytes; returns whether the file is complete."""
    known = _read_json(_note_of(path))
    there = partial.stat().st_size if partial.exists() and known.get("url") == url else 0
    headers = {"User-Agent": "tskd_jax", "Accept-Encoding": "identity"}
    if there and known.get("tag"):
        headers |= {"Range": f"bytes={there}-", "If-Range": known["tag"]}
    else:
        there = 0
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        if answer.status != 206:  # the whole file: it has changed, or ranges are not supported
            there = 0
        length = answer.headers.get("Content-Length")
        total = there + int(length) if length and length.isdecimal() else None
        _require_room(path, total, there)
        # A weak tag (W/…) does not guarantee equal bytes and must not be used for ranges.
        tag = answer.headers.get("ETag", "")
        tag = answer.headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
        _note_of(path).write_text(json.dumps({"url": url, "tag": tag}), encoding="utf-8")
        with partial.open("ab" if there else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                there += len(chunk)
                on_progress(there, total)
    return total is None or there == total


def _require_room(path: Path, total: int | None, there: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if total is not None and total - there > free:
        raise DatasetError(
            f"{path.parent}: {readable(total - there)} are needed, {readable(free)} are free; make "
            "room, or set D4RL_DATASET_DIR to another folder"
        )


def _check(partial: Path, path: Path, wanted: D4rlFile) -> str:
    """Check that a file is the wanted dataset; returns its SHA-256.

    A wrong file is refused and removed, so that the next try starts from the beginning.
    """
    try:
        size = partial.stat().st_size
        if wanted.size is not None and size != wanted.size:
            raise _Unsuitable(f"{size} bytes, {wanted.size} are known")
        found = content_hash(partial)
        entry = _read_json(path.with_name(LOCK)).get(path.name)
        locked = str(entry.get("sha256") or "") if isinstance(entry, dict) else ""
        for expected, source in ((wanted.sha256, "is known"), (locked, f"stands in {LOCK}")):
            if expected and found != expected:
                raise _Unsuitable(f"SHA-256 {found[:12]}…, {expected[:12]}… {source}")
        with open_file(partial) as file:
            reader = Reader(partial, file)
            missing = [key for key in ("observations", "actions", "rewards") if not reader.has(key)]
            if missing:
                raise _Unsuitable(f"no dataset: {missing[0]!r} is missing")
            if wanted.episodes is not None:
                ends = np.zeros(file["rewards"].shape[0], bool)
                for key in ("terminals", "timeouts"):
                    if reader.has(key):
                        ends |= reader.array(key, 1) != 0
                episodes = int(ends.sum()) + int(not ends[-1:].all())
                if episodes != wanted.episodes:
                    raise _Unsuitable(f"{episodes} episodes, {wanted.episodes} are known")
        return found
    except DatasetError as error:
        partial.unlink(missing_ok=True)
        raise _Unsuitable(str(error)) from error
    except _Unsuitable:
        partial.unlink(missing_ok=True)
        raise


def _remember(path: Path, url: str, sha256: str) -> None:
    """Write the file's hash into the lock file, against which later downloads are checked."""
    lock = path.with_name(LOCK)
    known = _read_json(lock)
    known[path.name] = {"sha256": sha256, "size": path.stat().st_size, "url": url}
    partial = lock.with_name(f".{lock.name}.partial")
    partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, lock)


def _note_of(path: Path) -> Path:
    """The file next to a partial download that notes its address and version."""
    return path.with_name(f".{path.name}.partial.json")


def _read_json(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _to_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
