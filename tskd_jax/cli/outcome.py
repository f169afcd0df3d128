"""How a command ends: its exit status, and one line that explains an error."""

import errno
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from tskd_jax.errors import TskdError
from tskd_jax.machine.memory import is_exhausted
from tskd_jax.machine.signals import SIGNALS, Interrupted, Request, listening

GO_ON = "the same command goes on from here"
CLOSED = (errno.EPIPE, errno.EIO)  # of a pipe whose reader has ended, and of a closed terminal
UNREAD = 128 + signal.SIGPIPE  # the shell's status of a program whose output nobody reads


def run_to_exit_status(command: Callable[[Request], int]) -> int:
    """Run a command and return its exit status; errors are reported on one line.

    0: done. 1: a replay that does not match. 2: an error of the input or of the machine. 130 and
    143: ended by SIGINT or SIGTERM; a run resumes with the same command. 141, without a line: the
    reader of the output has ended. In a job of several processes, the end of another process gives
    status 2, too.

    Args:
      command: takes a `Request`, which tells whether a signal asks it to end, and returns its exit
        status.
    """
    with listening() as request:
        try:
            status = command(request)
            print(end="", flush=True)  # else an error in it would show as the interpreter ends
            return status
        except TskdError as error:
            return _fail(str(error))
        except Interrupted as stop:
            rest = GO_ON if stop.kept else "nothing is kept"
            _say(f"{stop.name}: stopped {stop}; {rest}")
            if job := _job():
                job.leave()
            return stop.status
        except KeyboardInterrupt as stop:
            if stop.args:  # from `ending_at_once`
                signum = stop.args[0]
                return _fail(f"{signal.Signals(signum).name}: stopped", 128 + signum)
            return _fail(f"interrupted; {GO_ON}", 130)
        except OSError as error:
            if error.errno in CLOSED and _is_dead(sys.stdout):
                if job := _job():
                    job.leave()
                return UNREAD
            # A problem of the machine, not a bug: e.g. a full disk, or a folder that disappeared.
            place = error.filename2 or error.filename
            problem = f"{place}: {error.strerror}" if place else error.strerror or error
            return _fail(f"{problem}; mend that, and the same command goes on")
        except Exception as error:
            if is_exhausted(error):
                problem = str(error).partition("\n")[0]
                remedy = "close other programs, or choose a smaller preset"
                return _fail(f"out of memory{problem and ': '}{problem}; {remedy}; {GO_ON}")
            if job := _job():
                job.explain(error)
            raise
        finally:
            for stream in (sys.stdout, sys.stderr):
                _is_dead(stream)


@contextmanager
def ending_at_once(request: Request) -> Iterator[None]:
    """A context in which SIGINT and SIGTERM end a command, wherever it is.

    For commands that keep nothing to go on from, and so do not ask the request.

    Raises:
      KeyboardInterrupt: with the signal's number, at its arrival. No `except Exception` stops it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def handle(signum, _frame):
        if not isinstance(sys.exc_info()[1], KeyboardInterrupt):  # else the command is tidying up
            raise KeyboardInterrupt(signum)

    previous = {signum: signal.signal(signum, handle) for signum in SIGNALS}
    try:
        if request.signum is not None:
            raise KeyboardInterrupt(request.signum)
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def _is_dead(stream: TextIO | None) -> bool:
    """Whether the pipe or terminal behind a stream is closed; then the stream is led to nowhere.

    Otherwise the interpreter would complain of what is left in it when it ends.
    """
    try:
        descriptor = stream.fileno() if stream else None
    except OSError:  # a stream in memory
        descriptor = None
    if descriptor is None:
        return False
    found = select.poll()
    found.register(descriptor, 0)  # errors are always told
    if not found.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return True


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        print(f"tskd-jax: {line}", file=sys.stderr)


def _fail(problem: str, status: int = 2) -> int:
    _say(" ".join(problem.split()))
    if job := _job():
        job.abandon(problem, status)
    return status


def _job():
    """The module `machine.hosts`, or None if it (and JAX) is not imported: then there is no job."""
    return sys.modules.get("tskd_jax.machine.hosts")
