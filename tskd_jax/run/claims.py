"""Stages that several concurrent runs share: only one process at a time computes each stage.

    FOLDER/KEY    locked by the process that computes the stage with that key; removed at the end

A process that finds a stage claimed waits. A claim ends with its holder's process: then one of the
waiting processes computes the stage, starting from the checkpoints that the dead one left.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tskd_jax.machine.signals import Request
from tskd_jax.run import lock

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two checks of a claim
WAITS = "waits for"  # in the line that reports the waiting


class Claims:
    """The claims of one run.

    Args:
      folder: the same for all runs that share stages; created if it does not exist.
      run: name of this run, shown to runs that wait for it.
      request: whether a signal has asked the run to end.
      report: called with a line for the user.
    """

    def __init__(self, folder: Path, run: str, request: Request, report: Callable[[str], None]):
        self._folder, self._run = folder, run
        self._request, self._report = request, report

    @contextmanager
    def hold(self, key: str, name: str) -> Iterator[str]:
        """A context that holds the claim of a stage, after waiting until it is free.

        It yields the last other holder, or "" if there was none.

        Args:
          key: key of the stage.
          name: name of the stage, for display.

        Raises:
          Interrupted: a signal asked the run to end.
          OSError: the claim cannot be made or locked.
        """
        file, holder = self._wait(self._folder / key, name)
        try:
            yield holder
        finally:
            (self._folder / key).unlink(missing_ok=True)  # before closing the file frees the lock
            file.close()

    def _wait(self, path: Path, name: str) -> tuple[IO[str], str]:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, holder = lock.try_hold(path, f"in {self._run}")
        pauses, last = growing_pauses(), ""
        while file is None:
            if holder != last:
                self._report(f"{name:<32} {'':>8}   {WAITS} {holder}")
                last = holder
            self._request.stop_if_requested(f"before {name}")
            time.sleep(next(pauses))
            file, holder = lock.try_hold(path, f"in {self._run}")
        return file, last


def growing_pauses() -> Iterator[float]:
    """Seconds to sleep between checks of a lock that another process holds."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(1.5 * pause, LONGEST_PAUSE)
