"""Heartbeats of a job's processes: if one dies or stalls, the job soon ends and names it.

JAX notices a missing process, but not in time for a collective that waits for it, and it does not
name the process. So every process increments a counter in the key-value store of JAX's coordination
service and reads the counters of the others. A heartbeat shows only that a process is alive: one
that waits for its disk keeps counting.
"""

import ctypes
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import jax

BEAT_SECONDS = 4.0
MISSED_BEATS = 8  # a process that misses more counts as dead: with the beats around them, 40 s
FOLDER = "tskd_jax/alive"
ENDED = "ended: "
REMEDY = "start all processes again, and they go on from what was saved"

Exchange = Callable[[str, str], dict[str, str]]


# What JAX offers no public way to do


def _private_jax(index: int) -> tuple[Exchange | None, str]:
    """Access the key-value store of JAX's coordination service: the only use of private modules.

    JAX's own checkpointing library, Orbax, accesses the store in the same way.

    Args:
      index: index of this process, whose first entry is set here.

    Returns:
      (a function that sets a key to a value and returns all entries of `FOLDER`, or None if this
      version of JAX has no such store; the coordinator's address, "" if it is unknown).
    """
    address = ""
    try:
        from jax._src.distributed import global_state

        address = global_state.coordinator_address or ""
        client: Any = global_state.client

        def exchange(key: str, value: str) -> dict[str, str]:
            client.key_value_set(key, value, allow_overwrite=True)
            return dict(client.key_value_dir_get(FOLDER))

        with suppress(RuntimeError):  # the store exists but does not answer: a missed beat
            exchange(f"{FOLDER}/{index}", "0")
    except (ImportError, AttributeError, TypeError, ValueError):  # moved, or another signature
        return None, address
    return exchange, address


def on_abort(reason: Callable[[], str]) -> None:
    """From now on, if JAX aborts this process, print `reason` last and exit with status 2.

    JAX aborts a fifth of a second after the coordinator is gone, before any heartbeat can be
    missed. It prints an internal stack trace that names no process, and exits with status 134. It
    does so from a thread of its own or inside a call, so there is no exception to catch, and
    Python's own signal handlers run too late: only a C handler runs before the exit.
    """
    global _handler
    if os.name == "posix":
        _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _signum: _end(reason()))
        ctypes.CDLL(None).signal(signal.SIGABRT, _handler)


_handler: Any = None  # a reference, because C keeps none


def _end(problem: str) -> NoReturn:
    # The main thread may wait in a collective forever: only the operating system can end it.
    os.write(2, f"tskd-jax: {problem}; {REMEDY}\n".encode())
    os._exit(2)


class Heartbeat:
    """Watches the processes of this job, from its creation until `stop`.

    If this version of JAX has no key-value store, only JAX's own heartbeat remains.
    """

    def __init__(self) -> None:
        self._index, self._count = jax.process_index(), jax.process_count()
        self._exchange, self._address = _private_jax(self._index)
        self._last_seen = dict.fromkeys(range(self._count), ("", 0))
        self._unanswered = 0
        self._stopped = threading.Event()
        if self._exchange is None:
            warnings.warn(
                f"JAX {jax.__version__} has no key-value store where it is looked for: a dead "
                "process ends this job later than usual, and may not be named",
                RuntimeWarning,
                stacklevel=2,
            )
        else:
            for work in (self._beat, self._watch_store):
                threading.Thread(target=work, name=f"heartbeat{work.__name__}", daemon=True).start()
        on_abort(self._abort_reason)

    def stop(self) -> None:
        """Stop watching: the processes are about to part as planned."""
        self._stopped.set()

    def report_end(self, problem: str) -> None:
        """Tell the other processes that this one ends, and why."""
        self._stopped.set()
        if self._exchange is None:
            return
        with suppress(Exception):  # this process ends, whether the store answers or not
            self._set(ENDED + " ".join(problem.split()))
        if self._index == 0:
            time.sleep(2 * BEAT_SECONDS)  # the store ends with this process

    def wait_for_verdict(self) -> None:
        """Wait long enough to notice a dead process; if there is one, this process ends here."""
        if self._exchange is not None:
            time.sleep(BEAT_SECONDS * (MISSED_BEATS + 3))

    def _set(self, value: str) -> dict[int, str]:
        """Set this process's entry; returns the entries of all processes."""
        assert self._exchange is not None
        entries = self._exchange(f"{FOLDER}/{self._index}", value)
        return {int(key.rpartition("/")[2]): entry for key, entry in entries.items()}

    def _beat(self) -> None:
        number = 0
        while not self._stopped.wait(BEAT_SECONDS):
            number += 1
            with suppress(Exception):  # unanswered, which is counted
                entries = self._set(str(number))
                self._unanswered = 0
                self._compare(entries)

    def _compare(self, entries: dict[int, str]) -> None:
        """Count missed beats in own beats, so that a process that slept does not accuse others."""
        for process in range(self._count):
            value = entries.get(process, "")
            if value.startswith(ENDED) and process != self._index:
                _end(f"{self._name(process)} {value}")
            before, missed = self._last_seen[process]
            self._last_seen[process] = (value, missed + 1 if value == before else 0)
            if self._last_seen[process][1] > MISSED_BEATS:
                _end(f"{self._name(process)} is dead or stalled: {self._silence()}")

    def _watch_store(self) -> None:
        """Notice when the store itself no longer answers."""
        while not self._stopped.wait(BEAT_SECONDS):
            self._unanswered += 1
            if self._unanswered > MISSED_BEATS:
                _end(f"{self._coordinator()} is dead or stalled: {self._silence()}")

    def _abort_reason(self) -> str:
        host, _, port = self._address.rpartition(":")
        ended_by_jax = "JAX has ended this process; its message stands above"
        if not port.isdigit():
            return ended_by_jax
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 2):
            return ended_by_jax
        return f"{self._coordinator()} has ended"

    def _name(self, process: int) -> str:
        return f"process {process} of {self._count}"

    def _coordinator(self) -> str:
        return f"{self._name(0)} (the coordinator, {self._address})"

    def _silence(self) -> str:
        return f"no heartbeat for {BEAT_SECONDS * MISSED_BEATS:.0f} s"
