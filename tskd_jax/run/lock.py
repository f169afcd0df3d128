"""A lock on a folder that dies with its process."""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from tskd_jax.errors import WorkdirError


def hold(path: Path) -> IO[str]:
    """Lock a file, made where it does not exist, as long as the file that is given back is open.

    The system frees the lock when the process ends, however it ends. The lock is the process's: it
    may take it again. The file says who holds it.

    Raises:
      WorkdirError: another living process holds it.
      OSError: the file cannot be made or locked.
    """
    while True:
        file = path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise WorkdirError(
                f"{path.parent} is in use by {holder}; wait for it to end, or choose another "
                "--workdir"
            ) from error
        # A holder that removes its folder may have removed this file after it was opened here.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
