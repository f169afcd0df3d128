"""Several processes as one job: how they join, and who decides.

All run the same program on the same data (`jax.distributed`). What depends on a clock, a signal or
a file is decided by the first process and told to the others, so that all take the same way; only
the first touches the run's folder. In a process that is alone nothing is sent.
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
from tskd_jax.machine.liveness import Watch, on_abort

Result = TypeVar("Result")
FORM = "auto | off | coordinator:port,count,index"
_NAMED = re.compile(r"([^\s,]+:\d+),(\d+),(\d+)")
JOIN_SECONDS = 300  # to wait until all processes are there
# Ours notices sooner and can say who it is (`liveness`): JAX's own is there in case it does not.
JAX_HEARTBEAT_SECONDS = 100
MESSAGE = 4096  # bytes of a short one, its length included
PART = 1 << 26  # bytes of a long one that are sent at a time

_watch: Watch | None = None


def is_form(distributed: str) -> bool:
    """Whether that is a value of `config.distributed`."""
    named = _NAMED.fullmatch(distributed)
    return distributed in ("auto", "off") or bool(named and int(named[3]) < int(named[2]))


def join(distributed: str) -> None:
    """Become one of the processes of a job. Must be called before anything is computed.

    Args:
      distributed: `config.distributed`: `off` does nothing, `auto` asks Slurm, GKE, a TPU pod or
        MPI, and `coordinator:port,count,index` says where process 0 is, how many there are, and
        which this one is.

    Raises:
      JobError: there is no such cluster, or the others did not come.
    """
    global _watch
    if distributed == "off":
        return
    # It would take SIGTERM for itself, which is a request to save and end (`interruption`).
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
        told = " ".join(str(error).split())[:200]
        raise JobError(
            f"{problem} ({told}); start as many as there should be, all with the same coordinator; "
            f"allowed: {FORM}"
        ) from error
    _watch = Watch()


def is_first() -> bool:
    """Whether this process is the one that decides and writes."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_first(compute: Callable[[], Result], known: tuple[type[Exception], ...] = ()) -> Result:
    """What `compute` gives in the first process, in all of them; every process must ask.

    Args:
      compute: gives nested dicts of arrays, numbers and text. Called in the first process only.
      known: errors of it that are raised in every process; others are a JobError in those that are
        not the first.
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
        _broadcast(_pack({"error": type(error).__name__, "text": str(error)}))
        raise
    _broadcast(_pack({"result": result}))
    return result


def largest(number: int) -> int:
    """The largest of the numbers of all processes; every process must ask."""
    if not jax.distributed.is_initialized():
        return number
    return int(multihost_utils.process_allgather(np.int32(number)).max())


def _pack(tree: dict[str, Any]) -> bytes:
    # Flax's own copy would sort the keys, and a manifest's results are in order of their making.
    return serialization.msgpack_serialize(_copy(tree), in_place=True)


def _copy(tree: Any) -> Any:
    return {key: _copy(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _broadcast(content: bytes) -> bytes:
    """The first process's content: one message, and parts for what it does not hold."""
    head = np.zeros(MESSAGE // 4, np.uint32)
    head[:2] = divmod(len(content), 1 << 31)
    room = MESSAGE - 8
    head[2:] = _words(content[:room], room)
    head = multihost_utils.broadcast_one_to_all(head)
    size = (int(head[0]) << 31) + int(head[1])
    parts = [head[2:].tobytes()]
    for start in range(room, size, PART):
        # Few sizes, as each is a program of its own.
        length = max(MESSAGE, 1 << (min(PART, size - start) - 1).bit_length())
        words = _words(content[start : start + PART], length)
        parts.append(multihost_utils.broadcast_one_to_all(words).tobytes())
    return b"".join(parts)[:size]


def _words(content: bytes, size: int) -> np.ndarray:
    return np.frombuffer(content.ljust(size, b"\0"), np.uint32)


# The end


def leave() -> None:
    """The end of a job at which all processes arrive: wait for them."""
    global _watch
    if _watch is not None:
        _watch.stop()
        _watch = None
        jax.distributed.shutdown()


def abandon(problem: str, status: int) -> None:
    """End this process if it is one of a job, so that the others hear why; alone it goes on."""
    if _watch is not None:
        _watch.tell(problem)
        _exit(status)


def explain(error: Exception) -> None:
    """After an error that is no user's: in a job, end this process and say whose fault it is.

    Another process's end shows here as an error of the communication, at any place.
    """
    if _watch is not None:
        _watch.wait_for_verdict()  # which ends this process, if there is one
        traceback.print_exception(error)
        abandon(f"{type(error).__name__}: {error}", 1)


def _exit(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    # Not as usual: JAX would wait for the other processes, which wait for this one.
    os._exit(status)
