"""How much memory there is, how much a program takes, and what is said when it is not enough."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tskd_jax.errors import OutOfMemoryError

Result = TypeVar("Result")
CGROUP = Path("/sys/fs/cgroup")

ADVICE = "choose a smaller batch_size, features or horizon, or a machine with more memory"


def readable(size: float) -> str:
    """Bytes as people read them."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def of_program(compiled: Any) -> int:
    """Bytes that a compiled program takes: arguments, results and what is in between."""
    about = compiled.memory_analysis()
    if about is None:  # not every backend tells
        return 0
    sizes = (
        about.argument_size_in_bytes,
        about.output_size_in_bytes,
        about.temp_size_in_bytes,
        -about.alias_size_in_bytes,
    )
    return int(sum(sizes))


def of_call(function: Any, *args: Any, **static: Any) -> int:
    """Bytes that a call of a jitted function takes; it is compiled once, for this and the call."""
    return of_program(function.lower(*args, **static).compile())


def of_device() -> tuple[int, int]:
    """(bytes free, bytes in all) where arrays are; very many where it is unknown."""
    import jax

    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0), stats["bytes_limit"]
    return of_host()


def of_host() -> tuple[int, int]:
    """(bytes free, bytes in all) of this process's memory; very many where it is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        sizes = {line.partition(":")[0]: 1024 * int(line.split()[1]) for line in lines}
        free, whole = sizes["MemAvailable"], sizes["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        free = whole = 2**62
    try:  # a container's limit, where there is one
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):
        return free, whole
    return min(free, max(0, limit - used)), min(whole, limit)


def check(name: str, needed: int) -> None:
    """Refuse what this machine can never hold, before it begins.

    Raises:
      OutOfMemoryError: more is needed than there is, free or not.
    """
    _, whole = of_device()
    if needed > whole:
        raise OutOfMemoryError(
            f"{name}: needs about {readable(needed)} of memory, this machine has "
            f"{readable(whole)}; {ADVICE}"
        )


def make_sure(needed: int) -> None:
    """Before a program is started: a CPU's system would end the whole process for it.

    Raises:
      MemoryError: it needs more than is free. `in_chunks` then goes on with fewer rows.
    """
    free, _ = of_device()
    if needed > free:
        raise MemoryError(f"{readable(needed)} are needed, {readable(free)} are free")


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def in_chunks(count: int, size: int, compute: Callable[[int, int], Result]) -> list[Result]:
    """Results for `count` rows, `size` at a time, or half as many whenever memory runs out.

    In a job of several processes it ends there.

    Args:
      count: rows; 0 is one chunk of none.
      size: rows at a time, at first.
      compute: (first row, size) -> result for rows first … min(first + size, count) - 1.
    """
    results, first = [], 0
    while first < max(count, 1):
        try:
            results.append(compute(first, size))
        except Exception as error:
            import jax

            # The processes of a job take the same steps, or wait for one another for ever.
            if not is_exhausted(error) or size == 1 or jax.distributed.is_initialized():
                raise
            size = max(1, size // 2)
        else:
            first += size
    return results


@contextmanager
def named(name: str, needed: int) -> Iterator[None]:
    """Inside, running out of memory is an OutOfMemoryError that names what needed how much."""
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise OutOfMemoryError(
            f"{name}: out of memory; it needs about {readable(needed)}, {readable(of_device()[0])} "
            f"are free; {ADVICE}"
        ) from error
