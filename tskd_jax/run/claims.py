"""Stages that several runs share while all of them run: each is made by one process at a time.

    FOLDER/KEY    locked by the process that makes the stage of that key; removed when it is done

A process that finds a stage claimed waits. The claim dies with its holder: then one of those that
wait makes the stage, and goes on from the checkpoints that the dead one left.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tskd_jax.machine.signals import Request
from tskd_jax.run import lock

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds between two looks at a claim
WAITS = "waits for"  # in the line that says so


class Claims:
    """The claims of one run.

    Args:
      folder: the same for all runs that share stages; made where it does not exist.
      run: name of this run, which others that wait are shown.
      request: whether a signal has asked the run to end.
      report: called with a line for the user.
    """

    def __init__(self, folder: Path, run: str, request: Request, report: Callable[[str], None]):
        self._folder, self._run = folder, run
        self._request, self._report = request, report

    @contextmanager
    def hold(self, key: str, name: str) -> Iterator[str]:
        """Claim a stage, or wait until its claim is free; gives who held it, "" for nobody.

        Args:
          key: of the stage.
          name: of the stage, for the eye.

        Raises:
          Interrupted: a signal asked the run to end.
          OSError: the claim cannot be made or locked.
        """
        file, holder = self._wait(self._folder / key, name)
        try:
            yield holder
        finally:
            (self._folder / key).unlink(missing_ok=True)  # before it is free
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
    """Seconds to sleep between two looks at what another process holds."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(1.5 * pause, LONGEST_PAUSE)
