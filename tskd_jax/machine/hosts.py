"""Several processes as one job: how they join, and which one decides.

All run the same program on the same data (`jax.distributed`). The first process decides whatever
depends on a clock, a signal or a file, and sends it to the others, so that all take the same path.
Only the first process accesses the run's folder. A single process sends nothing.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from flax import serialization
from jax.experimental import multihost_utils

from tskd_jax.errors import JobError
from tskd_jax.machine.heartbeat import Heartbeat, on_abort

Result = TypeVar("Result")
FORM = "auto | off | coordinator:port,count,index"
_NAMED = re.compile(r"([^\s,]+:\d+),(\d+),(\d+)")
JOIN_SECONDS = 300  # to wait until all processes have started
# Our own heartbeat (`heartbeat`) is faster and names the process; JAX's is only a fallback.
JAX_HEARTBEAT_SECONDS = 100
MESSAGE = 4096  # bytes of a short message, including its length
PART = 1 << 26  # bytes of a long message that are sent at once

_heartbeat: Heartbeat | None = None


def is_form(distributed: str) -> bool:
    """Whether a text is a valid value of `config.distributed`."""
    named = _NAMED.fullmatch(distributed)
    return distributed in ("auto", "off") or bool(named and int(named[3]) < int(named[2]))


def join(distributed: str) -> None:
    """Join a job as one of its processes. Must be called before anything is computed.

    Args:
      distributed: `config.distributed`: `off` does nothing, `auto` asks Slurm, GKE, a TPU pod or
        MPI, and `coordinator:port,count,index` gives the address of process 0, the number of
        processes, and the index of this one.

    Raises:
      JobError: no cluster was found, or the other processes did not join.
    """
    global _heartbeat
    if distributed == "off":
        return
    # The service would handle SIGTERM itself, which here requests to save and end (`signals`).
    jax.config.update("jax_enable_preemption_service", False)
    options: dict[str, Any] = {}
    if named := _NAMED.fullmatch(distributed):
        options = {
            "coordinator_address": named[1],
            "num_processes": int(named[2]),
            "process_id": int(named[3]),
            "cluster_detection_method": "deactivate",
        }
    problem = f"config.distributed={distributed}: the processes do not come together"
    on_abort(lambda: f"{problem} within {JOIN_SECONDS} s")
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=JAX_HEARTBEAT_SECONDS,
        )
    except Exception as error:
        cause = " ".join(str(error).split())[:200]
        raise JobError(
            f"{problem} ({cause}); start as many as there should be, all with the same "
            f"coordinator; allowed: {FORM}"
        ) from error
    _heartbeat = Heartbeat()


def is_first() -> bool:
    """Whether this is the process that decides and writes."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_first(compute: Callable[[], Result], known: tuple[type[Exception], ...] = ()) -> Result:
    """Compute something in the first process and return it in all; every process must call this.

    Args:
      compute: () -> nested dicts of arrays, numbers and text. Called in the first process only.
      known: errors of `compute` that are raised in every process. Any other error is raised in the
        first process, and as a JobError in the others.
    """
    if not jax.distributed.is_initialized():
        return compute()
    if not is_first():
        answer = serialization.msgpack_restore(_broadcast(b""))
        if "result" in answer:
            return answer["result"]
        for error in known:
            if error.__name__ == answer["error"]:
                raise error(answer["text"])
        raise JobError(f"process 0: {answer['text']}")
    try:
        result = compute()
    except Exception as error:
        kind = next((one for one in known if isinstance(error, one)), type(error))
        _broadcast(_pack({"error": kind.__name__, "text": str(error)}))
        raise
    _broadcast(_pack({"result": result}))
    return result


def largest(number: int) -> int:
    """The largest of all processes' numbers; every process must call it."""
    if not jax.distributed.is_initialized():
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def _pack(tree: dict[str, Any]) -> bytes:
    # Flax's own copy would sort the keys; a manifest lists results in the order of computation.
    return serialization.msgpack_serialize(_copy(tree), in_place=True)


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _broadcast(content: bytes) -> bytes:
    """Send the first process's content to all: one message, and parts for what does not fit."""
    head = np.zeros(MESSAGE // 4, np.uint32)
    head[:2] = divmod(len(content), 1 << 31)
    room = MESSAGE - 8
    head[2:] = _words(content[:room], room)
    head = multihost_utils.broadcast_one_to_all(head)
    size = (int(head[0]) << 31) + int(head[1])
    parts = [head[2:].tobytes()]
    for start in range(room, size, PART):
        # Few different sizes, because each needs a program of its own.
        length = max(MESSAGE, 1 << (min(PART, size - start) - 1).bit_length())
        words = _words(content[start : start + PART], length)
        parts.append(multihost_utils.broadcast_one_to_all(words).tobytes())
    return b"".join(parts)[:size]


def _words(content: bytes, size: int) -> np.ndarray:
    return np.frombuffer(content.ljust(size, b"\0"), np.uint32)


# The end of a job


def meet() -> None:
    """Wait until all processes have arrived here; until then every one shows that it is alive."""
    from_first(dict)


def leave() -> None:
    """End a job as planned: wait until all processes have arrived here."""
    global _heartbeat
    if _heartbeat is not None:
        _heartbeat.stop()
        _heartbeat = None
        jax.distributed.shutdown()


def abandon(problem: str, status: int) -> None:
    """In a job, report the problem to the other processes and end this one; alone, do nothing."""
    if _heartbeat is not None:
        _heartbeat.report_end(problem)
        _exit(status)


def explain(error: Exception) -> None:
    """After an internal error: in a job, end this process and name the cause.

    The end of another process may appear here as a communication error, at any place in the code.
    """
    if _heartbeat is not None:
        _heartbeat.wait_for_verdict()  # ends this process if another one is dead
        traceback.print_exception(error)
        abandon(f"{type(error).__name__}: {error}", 1)


def _exit(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: JAX would wait for the other processes, which wait for this one.
    os._exit(status)
