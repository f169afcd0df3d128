"""How a command ends: its exit status, and one line that explains an error."""

import sys
from collections.abc import Callable

from tskd_jax.errors import TskdError
from tskd_jax.machine.memory import is_exhausted
from tskd_jax.machine.signals import Interrupted, Request, listening

GO_ON = "the same command goes on from here"


def run_to_exit_status(command: Callable[[Request], int]) -> int:
    """Run a command and return its exit status; errors are reported on one line.

    0: done. 1: a replay that does not match. 2: an error of the input or of the machine. 130 and
    143: ended by SIGINT or SIGTERM; the same command resumes. In a job of several processes, the
    end of another process gives status 2, too.

    Args:
      command: takes a `Request`, which tells whether a signal asks it to end, and returns its exit
        status.
    """
    with listening() as request:
        try:
            return command(request)
        except TskdError as error:
            return _fail(str(error))
        except Interrupted as stop:
            rest = GO_ON if stop.kept else "nothing is kept"
            print(f"tskd-jax: {stop.name}: stopped {stop}; {rest}", file=sys.stderr)
            if job := _job():
                job.leave()
            return stop.status
        except KeyboardInterrupt:
            return _fail(f"interrupted; {GO_ON}", 130)
        except OSError as error:
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


def _fail(problem: str, status: int = 2) -> int:
    print(f"tskd-jax: {' '.join(problem.split())}", file=sys.stderr)
    if job := _job():
        job.abandon(problem, status)
    return status


def _job():
    """The module `machine.hosts`, or None if it (and JAX) is not imported: then there is no job."""
    return sys.modules.get("tskd_jax.machine.hosts")
