"""SIGINT and SIGTERM as requests: what is under way is finished and saved, then the run ends."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A run ends at a point from which it can go on, because a signal asked for it."""

    def __init__(self, signum: int, where: str):
        super().__init__(where)
        self.status = 128 + signum
        self.name = signal.Signals(signum).name


class Request:
    """Whether a signal has asked the run to end."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def asked(self) -> int:
        """The signal that has come, here or in another process of the job; 0 for none."""
        from tskd_jax.machine import hosts

        return hosts.largest(self.signum or 0)

    def obey(self, where: str) -> None:
        """Call where the run can end without loss, in every process of a job.

        Raises:
          Interrupted: a signal has asked for it.
        """
        if signum := self.asked():
            raise Interrupted(signum, where)


@contextmanager
def listening() -> Iterator[Request]:
    """SIGINT and SIGTERM set the request; a second SIGINT raises KeyboardInterrupt at once."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may handle signals
        return

    def handle(signum, _frame):
        if request.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        request.signum = signum

    before = {signum: signal.signal(signum, handle) for signum in SIGNALS}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
