"""What a compiled program takes of a chip."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from tskd_jax.costs.programs import Program
from tskd_jax.machine import devices, hlo, memory
from tskd_jax.machine.chips import Chip
from tskd_jax.machine.platform import lowering_for
from tskd_jax.machine.throughput import flops_of

PRODUCTS = ("cudnn", "cublas", "triton", "product")
# A kernel of this many bytes and more in another order is worth a line.
LAYOUT_COPY = 1 << 16
COLUMNS = (
    *("program", "once", "times", "dtype", "fits", "peak_bytes", "flops", "bytes_moved"),
    *("kernels", *PRODUCTS, "fusion", "copy", "layout_copies", "layout_copy_bytes"),
    *("collective", "collective_bytes", "cycles", "seconds", "share_of_peak", "compile_seconds"),
)


class Lowered:
    """A program that is traced for a chip, before it is compiled.

    Args:
      program: of a run.
      chip: what it is for.
      among: devices of that chip.

    Attributes:
      key: of its text, the chip and the compiler: what has the same is compiled once.
      arguments: bytes that a device holds before the program starts, its data and state.
    """

    def __init__(self, program: Program, chip: Chip, among: Sequence[Any]):
        self.program, self.chip = program, chip
        with lowering_for(chip.platform):
            prepared = program.prepare(among, devices.shapes)
            traced, self._mesh = prepared.trace(), prepared.mesh
            self._turns = prepared.turns
            with devices.on(self._mesh):
                self._lowered = traced.lower()
        self._flops = flops_of(traced.jaxpr)
        self.arguments = sum(_shard_bytes(leaf) for leaf in jax.tree.leaves(self._lowered.in_avals))
        text = "\n".join((self._lowered.as_text(), chip.name, jax.__version__, str(len(among))))
        self.key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def row(self, known: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """As `compile`, with its key; what is `known` by that is not compiled again."""
        found = known.get(self.key) or self.compile()
        return found | self.program.about | {"key": self.key}

    def compile(self) -> dict[str, Any]:
        """A row for the table, of plain numbers and texts; of one turn of the outer loop.

        `peak_bytes` is 0 where the compiler found that it does not fit, and said no more.
        """
        begin = time.perf_counter()
        chip = self.chip
        row: dict[str, Any] = self.program.about | {
            "fits": False,
            "peak_bytes": 0,
            "flops": self._flops // self._mesh.size,
        }
        try:
            with devices.on(self._mesh):
                compiled = self._lowered.compile()
        except Exception as error:
            if not memory.is_exhausted(error):
                raise
            return row | {"compile_seconds": time.perf_counter() - begin}
        row["compile_seconds"] = time.perf_counter() - begin
        row["peak_bytes"] = memory.of_program(compiled)
        row["fits"] = row["peak_bytes"] <= chip.memory
        return row | measured(compiled, self._turns, chip, row)


def measured(compiled: Any, turns: bool, chip: Chip, row: dict[str, Any]) -> dict[str, Any]:
    """What the compiler's text says of a turn, and how long it takes at least.

    Args:
      compiled: the program.
      turns: whether a call takes many turns, so that only what they repeat counts.
      chip: for which.
      row: `flops` of a device, and `dtype` of the products.
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
        "layout_copies": sum(one.times for one in copies),
        "layout_copy_bytes": sum(one.times * one.bytes for one in copies),
        "collective_bytes": sent,
        "cycles": dict(cycles) if any(cycles.values()) else {},
        "seconds": seconds,
        "share_of_peak": at_peak / seconds if seconds else 0.0,
    }


def _shard_bytes(aval: Any) -> int:
    """Bytes of an argument; keys have no size of their own."""
    size = getattr(aval.dtype, "itemsize", 8)
    return int(aval.size) * size


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Key -> row of what was compiled before; nothing where the file is not there, or no longer."""
    try:
        return {row["key"]: row for row in json.loads(path.read_text())["programs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def line(row: dict[str, Any]) -> str:
    """A row, as people read it."""
    name = f"{row['program']:<32}"
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
    """How long a run takes, as far as its parts are known.

    Args:
      rows: of all programs.
      devices: that share the work.
      bound: whether it takes that long at least, or was measured.
    """
    hours = sum(row.get("seconds", 0.0) * row["times"] for row in rows) / 3600
    line = f"a run's programs take {hours:.3g} hours{' at least' if bound else ''}"
    line += f", {hours * devices:.3g} device-hours" if devices > 1 else ""
    unknown = [row["program"] for row in rows if not row["times"] or "seconds" not in row]
    misfits = [row["program"] for row in rows if not row.get("fits", True)]
    line += f"; not counted: {', '.join(unknown)}" if unknown else ""
    return f"does not fit: {', '.join(misfits)}\n{line}" if misfits else line


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a CSV file: cycles by kind as text."""
    cycles = " ".join(f"{kind}:{count}" for kind, count in row.get("cycles", {}).items())
    return {name: row.get(name, "") for name in COLUMNS} | {"cycles": cycles}


def readable(seconds: float) -> str:
    """Seconds in a readable unit."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
