"""Compiles programs for a chip and reports their memory, operations and least time."""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from tskd_jax import __version__
from tskd_jax.costs.program import Program
from tskd_jax.machine import devices, hlo, memory
from tskd_jax.machine.chips import Chip
from tskd_jax.machine.platform import lowering_for
from tskd_jax.machine.throughput import flops_of
from tskd_jax.run import files

PRODUCTS = ("cudnn", "cublas", "triton", "product")
# Bytes from which a kernel that only reorders data is counted.
LAYOUT_COPY = 1 << 16
COLUMNS = (
    *("program", "once", "times", "dtype", "fits", "peak_bytes", "flops", "bytes_moved"),
    *("kernels", *PRODUCTS, "precise_products"),
    *("fusion", "copy", "layout_copies", "layout_copy_bytes"),
    *("collective", "collective_bytes", "cycles", "seconds", "share_of_peak", "compile_seconds"),
)


class Lowered:
    """A program, traced and lowered for a chip, but not yet compiled.

    Args:
      program: a program of a run.
      chip: the chip to compile for.
      among: devices of that chip.

    Attributes:
      key: hash of the program's text, the chip with its figures, the versions of this package and
        of JAX, and the number of devices; programs with the same key are compiled once.
      arguments: bytes that a device holds before the program starts: its data and state.
    """

    def __init__(self, program: Program, chip: Chip, among: Sequence[Any]):
        self.program, self.chip = program, chip
        with lowering_for(chip.platform):
            prepared = program.prepare(among, devices.shapes)
            traced, self._mesh = prepared.trace(), prepared.mesh
            self._turns = prepared.turns
            with devices.on(self._mesh):
                self._lowered = traced.lower()
        self._flops = flops_of(traced.jaxpr) // prepared.sharing
        self.arguments = sum(map(_shard_bytes, jax.tree.leaves(prepared.arguments)))
        about = (repr(chip), __version__, jax.__version__, str(len(among)))
        text = "\n".join((self._lowered.as_text(), *about))
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def row(self, known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """As `compile`, with the key; a program whose key is in `known` is not compiled again."""
        found = known.get(self.key) or self.compile()
        return found | self.program.about | {"key": self.key}

    def compile(self) -> dict[str, Any]:
        """Compile the program; returns a row of plain numbers and texts, for one turn.

        `peak_bytes` is 0 if the compiler ran out of device memory and reported no size, and if it
        failed in another way: then `problem` has its words, and `fits` is not known.
        """
        begin = time.perf_counter()
        chip = self.chip
        row: dict[str, Any] = self.program.about | {
            "fits": False,
            "peak_bytes": 0,
            "flops": self._flops,
        }
        try:
            with devices.on(self._mesh):
                compiled = self._lowered.compile()
        except Exception as error:
            if not memory.is_exhausted(error):
                if not isinstance(error, jax.errors.JaxRuntimeError):
                    raise
                row |= {"fits": None, "problem": str(error).splitlines()[0]}
            return row | {"compile_seconds": time.perf_counter() - begin}
        row["compile_seconds"] = time.perf_counter() - begin
        row["peak_bytes"] = memory.of_program(compiled)
        row["fits"] = row["peak_bytes"] <= chip.memory
        return row | measured(compiled, self._turns, chip, row)


def measured(compiled: Any, turns: bool, chip: Chip, row: dict[str, Any]) -> dict[str, Any]:
    """Costs of one turn, from the compiler's text, and a lower bound of its time.

    Args:
      compiled: the program.
      turns: whether a call takes several turns; then only kernels inside loops count.
      chip: the chip that it was compiled for.
      row: `flops` per device, and `dtype` of the products.
    """
    found = hlo.read(compiled.as_text())
    return _of_turn(found.of_loops() if turns else found, chip, row)


def _of_turn(found: hlo.Program, chip: Chip, row: dict[str, Any]) -> dict[str, Any]:
    copies, cycles = found.layout_copies(LAYOUT_COPY), found.cycles()
    counted = {kind: found.count(kind) for kind in (*PRODUCTS, "fusion", "copy", "collective")}
    moved = found.bytes()
    at_peak = row["flops"] / chip.peak[row["dtype"]]
    if any(cycles.values()):
        seconds = sum(cycles.values()) / chip.clock
    else:
        seconds = max(at_peak, moved / chip.bandwidth) + found.count() * chip.launch
    sent = found.sent()
    seconds += sent / chip.link + counted["collective"] * chip.latency
    return {
        "bytes_moved": moved,
        "kernels": found.count(),
        **counted,
        "precise_products": found.precise_products(),
        "layout_copies": sum(one.times for one in copies),
        "layout_copy_bytes": sum(one.times * one.bytes for one in copies),
        "collective_bytes": sent,
        "cycles": dict(cycles) if any(cycles.values()) else {},
        "seconds": seconds,
        "share_of_peak": at_peak / seconds if seconds else 0.0,
    }


def _shard_bytes(leaf: Any) -> int:
    """Bytes that each device holds of an argument; of what is not an array, none.

    A random key, whose dtype has no item size, counts as 8 bytes.
    """
    if not isinstance(leaf, jax.ShapeDtypeStruct):
        return 0
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return math.prod(shape) * getattr(leaf.dtype, "itemsize", 8)


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Read the rows of earlier compilations by key; empty if the file is missing or damaged."""
    try:
        return {row["key"]: row for row in json.loads(path.read_text())["programs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write(
    path: Path,
    rows: Sequence[dict[str, Any]],
    known: Mapping[str, dict[str, Any]],
    **about: Any,
) -> None:
    """Write the rows of compiled programs, for `read`, and after them those known from before.

    Args:
      path: of the JSON file.
      rows: this time's.
      known: earlier ones, as from `read`.
      **about: what else the file says.
    """
    keys = {row["key"] for row in rows}
    earlier = [row for key, row in known.items() if key not in keys]
    files.write_json(path, {**about, "programs": [*rows, *earlier]})


def line(row: dict[str, Any]) -> str:
    """Format a row as one line for a terminal."""
    name = f"{row['program']:<32}"
    if "problem" in row:
        return f"{name} the compiler fails: {row['problem'][:200]}"
    if not row["peak_bytes"]:
        return f"{name} does not fit (the compiler gives up)"
    fits = memory.readable(row["peak_bytes"]) + ("" if row["fits"] else ": does not fit")
    products = sum(row[kind] for kind in PRODUCTS)
    parts = [
        f"{fits:>9}",
        f"{row['flops'] / 1e9:9.1f} GFLOP",
        f"{row['bytes_moved'] / 1e9:8.2f} GB moved",
        f"{row['kernels']:5} kernels ({products} products, {row['layout_copies']} layout copies)",
        f"{readable(row['seconds']):>8} per {row['once']}",
        f"{row['share_of_peak']:4.0%} of the peak",
    ]
    if row["collective"]:
        parts.append(f"{memory.readable(row['collective_bytes'])} sent")
    return f"{name} {'  '.join(parts)}"


def total(rows: Sequence[dict[str, Any]], devices: int, bound: bool = True) -> str:
    """Sum up in words how long a run takes, as far as the times of its programs are known.

    Args:
      rows: the rows of all programs.
      devices: number of devices that share the work.
      bound: whether the seconds are lower bounds; otherwise they were measured.
    """
    hours = sum(row.get("seconds", 0.0) * row["times"] for row in rows) / 3600
    line = f"if nothing ends early, a run's programs take {hours:.3g} hours"
    line += " at least" if bound else ""
    line += f", {hours * devices:.3g} device-hours" if devices > 1 else ""
    unknown = [row["program"] for row in rows if not row["times"] or "seconds" not in row]
    misfits = [row["program"] for row in rows if row.get("fits", True) is False]
    line += f"; not counted: {', '.join(unknown)}" if unknown else ""
    return f"does not fit: {', '.join(misfits)}\n{line}" if misfits else line


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Reduce a row to `COLUMNS`, for a CSV file, with the cycles by kind as text."""
    cycles = " ".join(f"{kind}:{count}" for kind, count in row.get("cycles", {}).items())
    return {name: row.get(name, "") for name in COLUMNS} | {"cycles": cycles}


def readable(seconds: float) -> str:
    """Format seconds in a readable unit."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
