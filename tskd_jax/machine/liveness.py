"""Who of a job's processes is alive: a dead or stalled one ends the job, by name and soon.

JAX notices a process that is gone, but not in time for a collective that waits for it, and does not
say who it was. So every process counts in the key-value store of JAX's coordination service, and
reads how far the others are. That they are alive is all this says: a process that waits for its
disk counts on.
"""

import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import jax

BEAT_SECONDS = 4.0
MISSED_BEATS = 8  # after which a process counts as gone: with the beats around them, 40 s
FOLDER = "tskd_jax/alive"
ENDED = "ended: "
REMEDY = "start all processes again, and they go on from what was saved"


def on_abort(why: Callable[[], str]) -> None:
    """From now on, should JAX abort, let this line be the last that the process says.

    JAX aborts from a thread of its own, or inside a call: Python has nothing to catch.
    """
    global _handler
    _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _signum: _end(why()))
    ctypes.CDLL(None).signal(signal.SIGABRT, _handler)


_handler: Any = None  # kept, as C does not


def _end(problem: str) -> NoReturn:
    # The main thread may wait in a collective for ever: only the system can end it.
    os.write(2, f"tskd-jax: {problem}; {REMEDY}\n".encode())
    os._exit(2)


class Watch:
    """Watches over the processes of this job, from when it is made until it is stopped."""

    def __init__(self) -> None:
        # JAX has no public name for it; its own checkpointing library goes this way, too.
        from jax._src.distributed import global_state

        self._client: Any = global_state.client
        self._address = global_state.coordinator_address or ""
        self._index, self._count = jax.process_index(), jax.process_count()
        self._heard = dict.fromkeys(range(self._count), ("", 0))
        self._unanswered = 0
        self._stopped = threading.Event()
        for work in (self._beat, self._judge):
            threading.Thread(target=work, name=f"liveness{work.__name__}", daemon=True).start()
        on_abort(self._why_aborted)  # JAX does so when process 0 is gone

    def stop(self) -> None:
        """The processes are about to part in peace."""
        self._stopped.set()

    def tell(self, problem: str) -> None:
        """Let the others know that, and why, this process ends."""
        self._stopped.set()
        with suppress(Exception):  # whatever ends it, also the store
            self._set(ENDED + " ".join(problem.split()))
        if self._index == 0:
            time.sleep(2 * BEAT_SECONDS)  # the store ends with this process

    def wait_for_verdict(self) -> None:
        """Give the watch the time that it needs to notice who is gone, and to end this process."""
        time.sleep(BEAT_SECONDS * (MISSED_BEATS + 3))

    def _set(self, value: str) -> None:
        self._client.key_value_set(f"{FOLDER}/{self._index}", value, allow_overwrite=True)

    def _beat(self) -> None:
        number = 0
        while not self._stopped.wait(BEAT_SECONDS):
            number += 1
            with suppress(Exception):  # unanswered, which is counted
                self._set(str(number))
                told = dict(self._client.key_value_dir_get(FOLDER))
                self._unanswered = 0
                self._look({int(key.rpartition("/")[2]): value for key, value in told.items()})

    def _look(self, told: dict[int, str]) -> None:
        """Silence is counted in this process's own beats: who sleeps must not accuse others."""
        for process in range(self._count):
            value = told.get(process, "")
            if value.startswith(ENDED) and process != self._index:
                _end(f"{self._name(process)} {value}")
            before, silent = self._heard[process]
            self._heard[process] = (value, silent + 1 if value == before else 0)
            if self._heard[process][1] > MISSED_BEATS:
                _end(f"{self._name(process)} is dead or stalled: {self._silence()}")

    def _judge(self) -> None:
        """Notices when the store itself no longer answers."""
        while not self._stopped.wait(BEAT_SECONDS):
            self._unanswered += 1
            if self._unanswered > MISSED_BEATS:
                _end(f"{self._coordinator()} is dead or stalled: {self._silence()}")

    def _why_aborted(self) -> str:
        host, _, port = self._address.rpartition(":")
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 2):
            return "JAX has ended this process; what it said stands above"
        return f"{self._coordinator()} has ended"

    def _name(self, process: int) -> str:
        return f"process {process} of {self._count}"

    def _coordinator(self) -> str:
        return f"{self._name(0)} (the coordinator, {self._address})"

    def _silence(self) -> str:
        return f"not heard of for {BEAT_SECONDS * MISSED_BEATS:.0f} s"
