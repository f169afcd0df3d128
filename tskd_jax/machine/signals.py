"""SIGINT and SIGTERM as requests: finish and save the current work, then end the run."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A command ends because a signal requested it; a run ends where it can be resumed.

    Args:
      signum: the signal.
      where: for the message, such as "after dynamics".
      kept: whether the same command resumes from there.
    """

    def __init__(self, signum: int, where: str, kept: bool = True):
        super().__init__(where)
        self.kept = kept
        self.status = 128 + signum
        self.name = signal.Signals(signum).name


class Request:
    """Whether a signal has requested the end of the run.

    Attributes:
      signum: the signal that this process has received, or None.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def requested(self) -> int:
        """The signal received here or in another process of the job; 0 for none."""
        from tskd_jax.machine import hosts

        return hosts.largest(self.signum or 0)

    def stop_if_requested(self, where: str) -> None:
        """Raise `Interrupted` if a signal has requested the end.

        Call it where the run can end without loss, in every process of a job.

        Args:
          where: for the message, such as "after dynamics".

        Raises:
          Interrupted: a signal has requested the end.
        """
        if signum := self.requested():
            raise Interrupted(signum, where)


@contextmanager
def listening() -> Iterator[Request]:
    """A context in which SIGINT and SIGTERM set the request; a second SIGINT interrupts at once."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may handle signals
        return

    def handle(signum, _frame):
        if request.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        request.signum = signum

    previous = {signum: signal.signal(signum, handle) for signum in SIGNALS}
    try:
        yield request
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
