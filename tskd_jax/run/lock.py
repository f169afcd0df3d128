"""A file lock that ends with its process.

It is a POSIX record lock: the operating system releases it when the process ends, however it ends.
On a shared file system it works across machines if the file system supports that
(docs/scaling.md).
"""

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from tskd_jax.errors import InUseError


def hold(path: Path) -> IO[str]:
    """Lock a file for as long as the returned file stays open; create it if it does not exist.

    The lock belongs to the process, which may take it again. The file's content names the holder.

    Raises:
      InUseError: another running process holds the lock.
      OSError: the file cannot be created or locked.
    """
    file, holder = try_hold(path)
    if file is None:
        raise InUseError(
            f"{path.parent} is in use by {holder}; wait for it to end, or choose another --workdir"
        )
    return file


def try_hold(path: Path, purpose: str = "") -> tuple[IO[str] | None, str]:
    """Like `hold`, but return the holder if another process holds the lock.

    Args:
      path: path of the file.
      purpose: what the lock is for, shown to other processes.

    Returns:
      (the open file, ""), or (None, the holder, such as "process 12 on node-3").

    Raises:
      OSError: the file cannot be created or locked.
    """
    while True:
        file = path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            return None, holder
        # The previous holder may have removed the file after it was opened here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}{purpose and f', {purpose}'}\n")
    file.flush()
    return file, ""
