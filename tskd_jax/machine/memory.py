"""Available memory, the memory that a program needs, and the error when there is too little."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from tskd_jax.errors import OutOfMemoryError

Result = TypeVar("Result")
ROOT = Path("/")  # of the file system

ADVICE = "choose a smaller batch_size, features or horizon, or a machine with more memory"


def readable(size: float) -> str:
    """Format bytes in a readable unit."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6)):
        if size >= divisor:
            return f"{size / divisor:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def of_program(compiled: Any) -> int:
    """Bytes that a compiled program needs for arguments, results and temporaries; 0 if unknown."""
    analysis = compiled.memory_analysis()
    if analysis is None:  # not every backend provides one
        return 0
    sizes = (
        analysis.argument_size_in_bytes,
        analysis.output_size_in_bytes,
        analysis.temp_size_in_bytes,
        -analysis.alias_size_in_bytes,
    )
    return int(sum(sizes))


def of_call(function: Any, *args: Any, **static: Any) -> int:
    """Bytes that a call of a jitted function needs; this compiles it, and the call reuses it."""
    return of_program(function.lower(*args, **static).compile())


def of_device() -> tuple[int, int]:
    """(free bytes, total bytes) of the device that arrays are placed on."""
    import jax

    device = jax.local_devices()[0]
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0), stats["bytes_limit"]
    return of_host()


def of_host() -> tuple[int, int]:
    """(free bytes, total bytes) of the host's memory, within the limits of its containers if any.

    psutil does not know these limits. Linux keeps them in the files of control groups, of which
    there are two versions, and a group is also within the limits of the groups that contain it.
    """
    memory = psutil.virtual_memory()
    free, total = memory.available, memory.total
    for folder in _groups():
        found = _of_group(folder, ("max", "current"), "inactive_file") or _of_group(
            folder, ("limit_in_bytes", "usage_in_bytes"), "total_inactive_file"
        )
        if found:
            free, total = min(free, found[0]), min(total, found[1])
    return free, total


def _groups() -> Iterator[Path]:
    """The folders of this process's control groups that may limit its memory, innermost first.

    /proc/self/cgroup has lines NUMBER:CONTROLLERS:PATH; those of version 2 name no controllers. In
    a container, PATH may be the host's, which is not mounted there; the outermost folder is then
    the container's own.
    """
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):  # not Linux
        return
    top = ROOT / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # outside of what is mounted
            parts = []
        for mounted in [top / "memory"] if controllers else [top, top / "unified"]:
            for depth in range(len(parts), -1, -1):
                yield mounted.joinpath(*parts[:depth])


def _of_group(folder: Path, names: Sequence[str], cached: str) -> tuple[int, int] | None:
    """(free bytes, limit) of a control group; None if it has no limit.

    Args:
      folder: the group's.
      names: of its limit and of its use, as files memory.NAME.
      cached: the line of memory.stat with the bytes that only cache files, and are freed when they
        are needed.
    """
    try:
        limit, used = (int((folder / f"memory.{name}").read_text()) for name in names)
    except (OSError, ValueError):  # no such group, or no limit: "max"
        return None
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        lines = []
    used -= sum(int(line.split()[1]) for line in lines if line.startswith(f"{cached} "))
    return max(0, limit - used), limit


def check(name: str, needed: int) -> None:
    """Refuse, before it starts, a program that this machine can never hold.

    Raises:
      OutOfMemoryError: more is needed than the machine's total memory, free or not.
    """
    _, total = of_device()
    if needed > total:
        raise OutOfMemoryError(
            f"{name}: needs about {readable(needed)} of memory, this machine has "
            f"{readable(total)}; {ADVICE}"
        )


def make_sure(needed: int) -> None:
    """Check, before a program starts, that enough memory is free.

    On a CPU, the operating system would kill the whole process if it were not.

    Raises:
      MemoryError: more is needed than is free. `in_chunks` then continues with fewer rows.
    """
    free, _ = of_device()
    if needed > free:
        raise MemoryError(f"{readable(needed)} are needed, {readable(free)} are free")


def is_exhausted(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def in_chunks(count: int, size: int, compute: Callable[[int, int], Result]) -> list[Result]:
    """Compute results for `count` rows in chunks; halve the chunks whenever memory runs out.

    In a job of several processes the error is raised instead.

    Args:
      count: number of rows; 0 gives one empty chunk.
      size: rows per chunk, at first.
      compute: (first row, size) -> result for rows first … min(first + size, count) - 1.
    """
    results, first = [], 0
    while first < max(count, 1):
        try:
            results.append(compute(first, size))
        except Exception as error:
            import jax

            # The processes of a job must take the same steps, or they would wait forever.
            if not is_exhausted(error) or size == 1 or jax.distributed.is_initialized():
                raise
            size = max(1, size // 2)
        else:
            first += size
    return results


@contextmanager
def named(name: str, needed: int) -> Iterator[None]:
    """A context that turns running out of memory into an OutOfMemoryError with name and bytes."""
    try:
        yield
    except Exception as error:
        if not is_exhausted(error):
            raise
        raise OutOfMemoryError(
            f"{name}: out of memory; it needs about {readable(needed)}, {readable(of_device()[0])} "
            f"are free; {ADVICE}"
        ) from error
