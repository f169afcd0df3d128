"""A lock on a file that dies with its process.

It is a POSIX record lock: the system frees it when the process ends, however it ends. On a shared
file system it holds between machines where that passes locks on (docs/scaling.md).
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from tskd_jax.errors import InUseError


def hold(path: Path) -> IO[str]:
    """Lock a file, made where it does not exist, as long as the file that is given back is open.

    The lock is the process's: it may take it again. The file says who holds it.

    Raises:
      InUseError: another living process holds it.
      OSError: the file cannot be made or locked.
    """
    file, holder = try_hold(path)
    if file is None:
        raise InUseError(
            f"{path.parent} is in use by {holder}; wait for it to end, or choose another --workdir"
        )
    return file


def try_hold(path: Path, purpose: str = "") -> tuple[IO[str] | None, str]:
    """As `hold`, without an error where another process holds it.

    Args:
      path: of the file.
      purpose: what the process holds it for, for the eyes of others.

    Returns:
      (the open file, ""), or (None, who holds it, such as "process 12 on node-3").

    Raises:
      OSError: the file cannot be made or locked.
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
        # A holder that removes its folder may have removed this file after it was opened here.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}{purpose and f', {purpose}'}\n")
    file.flush()
    return file, ""
