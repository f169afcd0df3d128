"""Parses XLA's text of a compiled program: its kernels by kind, and the bytes they move."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

BITS = {"pred": 8, "s4": 4, "u4": 4, "c64": 64, "c128": 128}
# Instructions that move no data and start no kernel.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "domain", "iota", "get-dimension-size"),
}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# A fusion of these only changes the order of the data.
_ORDER = {"parameter", "bitcast", "reshape", "tuple", "get-tuple-element", "copy", "transpose"}
_PRODUCTS = {"dot", "convolution"}

_ARRAY = re.compile(r"\b([a-z]+[0-9]*(?:e[0-9]m[0-9][a-z]*)?)\[([0-9,]*)\]")
# The workspace of a library call, listed after its results.
_WORKSPACE = re.compile(r", (?:/\*index=\d+\*/)?[us]8\[\d+\](?:\{0\})?\)$")
_LAYOUT = re.compile(r"\{([0-9,]*)")
_HEADER = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\) -> .*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*)$")
_OPCODE = re.compile(r" ([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%([^\s,)}]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%([^\s,)}]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"condition=%([^\s,)}]+)")
_CONSTANT = re.compile(r" constant\((\d+)\)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_SHAPED_GROUPS = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([0-9,]+)\}")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: without the percent sign.
      shape: shape of the result, as XLA writes it.
      opcode: such as `fusion`.
      operands: names of the operands.
      text: the whole line after the equals sign.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    text: str

    @property
    def called(self) -> str:
        """The name of the computation that it calls, or ""."""
        found = _CALLED.search(self.text)
        return found[1] if found else ""


@dataclass(frozen=True)
class Kernel:
    """An instruction that runs, and how often.

    Attributes:
      instruction: the instruction.
      kind: `cudnn`, `cublas`, `triton` (products compiled into Triton kernels), `product` (products
        by other compilers), `fusion`, `copy` (moves or reorders data), `collective`, `custom` or
        `other`.
      times: number of runs; a loop of unknown length counts once.
      bytes: bytes of operands and results, each counted once, per run.
      sent: bytes that a device sends to others per run.
      cycles: the compiler's estimate of the cycles per run; 0 if it gives none.
      in_loop: whether it is inside a loop.
      reorders: whether it only changes the order of data.
    """

    instruction: Instruction
    kind: str
    times: int
    bytes: int
    sent: int
    cycles: int
    in_loop: bool
    reorders: bool


@dataclass(frozen=True)
class Program:
    """A compiled program.

    Attributes:
      kernels: the kernels that it runs.
      computations: name -> instructions, including fused computations.
    """

    kernels: Sequence[Kernel]
    computations: Mapping[str, Sequence[Instruction]] = field(repr=False)

    def count(self, *kinds: str) -> int:
        """Number of kernel runs of the given kinds; without arguments, of all kinds."""
        return sum(one.times for one in self._of(kinds))

    def bytes(self, *kinds: str) -> int:
        """Bytes that kernels of the given kinds move in all runs."""
        return sum(one.times * one.bytes for one in self._of(kinds))

    def sent(self) -> int:
        """Bytes that a device sends to others in all runs, around the shortest ring."""
        return sum(one.times * one.sent for one in self._of(("collective",)))

    def cycles(self) -> Counter[str]:
        """Kind -> the compiler's estimate of the cycles of all runs."""
        found: Counter[str] = Counter()
        for one in self.kernels:
            found[one.kind] += one.times * one.cycles
        return found

    def layout_copies(self, at_least: int = 1 << 16) -> list[Kernel]:
        """Kernels in loops that only reorder data, of `at_least` bytes or more."""
        return [
            one for one in self.kernels if one.reorders and one.in_loop and one.bytes >= at_least
        ]

    def of_loops(self) -> "Program":
        """The program restricted to kernels in loops, without those that run before or after."""
        return replace(self, kernels=[one for one in self.kernels if one.in_loop])

    def _of(self, kinds: Sequence[str]) -> Iterator[Kernel]:
        return (one for one in self.kernels if not kinds or one.kind in kinds)


def read(text: str) -> Program:
    """Parse the text of a compiled program (`compiled.as_text()`).

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is not None and (found := _LINE.match(line)):
            current.append(_instruction(found[1], found[2]))
    if not entry:
        raise ValueError("XLA's text has no entry")
    return Program(list(_kernels(computations, entry, 1, False)), computations)


def size_of(shape: str) -> int:
    """Bytes of all arrays in a shape's text, also of nested tuples."""
    total = 0
    for dtype, dimensions in _ARRAY.findall(shape):
        digits = re.search(r"\d+", dtype)
        bits = BITS.get(dtype) or (int(digits[0]) if digits else 0)
        total += math.prod(int(n) for n in dimensions.split(",") if n) * bits
    return total // 8


def _instruction(name: str, text: str) -> Instruction:
    # A shape's tiling, as in {1,0:T(8,128)}, looks like a call, but has no space before it.
    found = _OPCODE.search(f" {text}") if not text.startswith("(") else _OPCODE.search(text)
    opcode, begin = ("", len(text)) if found is None else (found[1], found.end())
    offset = 0 if text.startswith("(") else 1
    inside = text[max(0, begin - offset) :]
    depth = 1
    for place, letter in enumerate(inside):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            inside = inside[:place]
            break
    shape = text[: max(0, (found.start() if found else 0))]
    operands = tuple(re.findall(r"%([^\s,)]+)", inside))
    return Instruction(name, shape, opcode, operands, text)


def _kernels(
    computations: Mapping[str, Sequence[Instruction]], name: str, times: int, in_loop: bool
) -> Iterator[Kernel]:
    shapes = {one.name: one.shape for one in computations[name]}
    for one in computations[name]:
        if one.opcode in _FREE or one.opcode.endswith(("-done", "-update")):
            continue
        if one.opcode == "while":
            trips = _trips(one, computations)
            yield from _kernels(computations, one.called, times * trips, True)
        elif one.opcode == "conditional":
            branches = [
                list(_kernels(computations, branch, times, in_loop))
                for branch in _branches(one.text)
            ]
            yield from max(branches, key=lambda all_: sum(k.bytes * k.times for k in all_))
        elif one.opcode in ("call", "async-start"):
            yield from _kernels(computations, one.called, times, in_loop)
        else:
            result = _WORKSPACE.sub("", one.shape) if one.opcode == "custom-call" else one.shape
            moved = size_of(result) + sum(size_of(shapes.get(n, "")) for n in one.operands)
            cycles = _CYCLES.search(one.text)
            fused = computations.get(one.called, ())
            reorders = _reorders(one, shapes) or any(
                _reorders(part, {other.name: other.shape for other in fused}) for part in fused
            )
            kind = _kind(one, fused)
            given = sum(size_of(shapes.get(name, "")) for name in one.operands)
            yield Kernel(
                *(one, kind, times, moved, _sent(one, given) if kind == "collective" else 0),
                *(int(cycles[1]) if cycles else 0, in_loop, kind == "copy" and reorders),
            )


def _trips(loop: Instruction, computations: Mapping[str, Sequence[Instruction]]) -> int:
    """Iterations of a loop: XLA's trip count, or the limit of a counter from 0; 1 if unknown."""
    if known := _TRIPS.search(loop.text):
        return int(known[1])
    condition = _CONDITION.search(loop.text)
    of_condition = computations.get(condition[1], ()) if condition else ()
    if not of_condition or "direction=LT" not in of_condition[-1].text:
        return 1
    limits = [
        int(found[1])
        for one in of_condition
        if one.name in of_condition[-1].operands and (found := _CONSTANT.search(one.text))
    ]
    return limits[0] if len(limits) == 1 else 1


def _sent(one: Instruction, given: int) -> int:
    """Bytes that a device sends around the ring of its group, for operands of `given` bytes."""
    size = group_size(one.text)
    operation = one.opcode.removesuffix("-start")
    if operation == "collective-permute":
        return given
    if operation == "all-gather":
        return given * (size - 1)
    return (2 if operation == "all-reduce" else 1) * given * (size - 1) // size


def group_size(text: str) -> int:
    """Number of devices in each group of a collective, from its line; 1 if the line has no groups.

    XLA writes groups as lists, `{{0,1},{2,3}}`, as a shape, `[2,2]<=[4]`, or as axes of a mesh.
    """
    if found := _MESH_GROUPS.search(text):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", found[2]))
    if found := _SHAPED_GROUPS.search(text):
        return int(found[1])
    if found := _LISTED_GROUPS.search(text):
        return found[1].count(",") + 1
    return 1


def _reorders(one: Instruction, shapes: Mapping[str, str]) -> bool:
    """Whether the result has another order in memory than the operands."""
    if one.opcode == "transpose":
        return True
    given = [shapes.get(name, "") for name in one.operands]
    return one.opcode in ("copy", "copy-start") and not any(
        _order(one.shape) == _order(shape) for shape in given
    )


def _order(shape: str) -> str:
    """The order of the dimensions of a shape's first array, or the whole text if it has none."""
    found = _LAYOUT.search(shape)
    return found[1] if found else shape


def _branches(text: str) -> list[str]:
    return [
        name.strip().removeprefix("%")
        for several, one in _BRANCHES.findall(text)
        for name in (several or one).split(",")
    ]


def _kind(one: Instruction, fused: Sequence[Instruction]) -> str:
    if one.opcode.removesuffix("-start") in _COLLECTIVES:
        return "collective"
    inside = {part.opcode for part in fused}
    if one.opcode == "custom-call":
        target = _TARGET.search(one.text)
        name = target[1] if target else ""
        if name.startswith("__cudnn"):
            return "cudnn"
        return "cublas" if name.startswith("__cublas") else "custom"
    if one.opcode in _PRODUCTS or inside & _PRODUCTS:
        return "triton" if "triton" in one.text else "product"
    if one.opcode in ("copy", "copy-start", "transpose"):
        return "copy"
    if one.opcode == "fusion":
        return "copy" if inside <= _ORDER and inside & {"copy", "transpose"} else "fusion"
    return "other"
