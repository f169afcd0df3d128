"""Parses XLA's text of a compiled program: its kernels by kind, and the bytes they move."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tskd_jax.machine.instruction import Instruction, moved, parse, sent

# Instructions that move no data and start no kernel.
_FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier", "domain", "iota", "get-dimension-size"),
}
_COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# A fusion of these only changes the order of the data.
_ORDER = {"parameter", "bitcast", "reshape", "tuple", "get-tuple-element", "copy", "transpose"}
_PRODUCTS = {"dot", "convolution"}

_LAYOUT = re.compile(r"\{([0-9,]*)")
_HEADER = re.compile(r"^(ENTRY )?%?([^\s(]+) \(.*\) -> .*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%(\S+) = (.*)$")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}|(?:true|false)_computation=%([^\s,)}]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_CONDITION = re.compile(r"condition=%([^\s,)}]+)")
_CONSTANT = re.compile(r" constant\((\d+)\)")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
# A product of which more is asked than one pass of the chip's matrix units over its operands, which
# rounds float32 to TF32 (a GPU) or bfloat16 (a TPU).
_PRECISE = re.compile(r"operand_precision=\{[^}]*high|algorithm=dot_(?:f32_f32_f32\b|\w+_x\d)")


@dataclass(frozen=True)
class Kernel:
    """An instruction that runs, and how often.

    Attributes:
      instruction: the instruction.
      kind: `cudnn`, `cublas`, `triton` (products compiled into Triton kernels), `product` (products
        by other compilers), `fusion`, `copy` (moves or reorders data), `collective`, `custom` or
        `other`.
      times: number of runs; a loop of unknown length counts once.
      bytes: bytes of operands and results, each counted once, per run; of an operand that is only
        gathered or sliced from, what is taken; of one that is updated in place, the new part.
      sent: bytes that a device sends to others per run.
      cycles: the compiler's estimate of the cycles per run; 0 if it gives none.
      in_loop: whether it is inside a loop.
      reorders: whether it only changes the order of data.
      precise: whether it is a product of float32 in full, or nearly full, precision: without the
        chip's matrix units, or in several passes.
    """

    instruction: Instruction
    kind: str
    times: int
    bytes: int
    sent: int
    cycles: int
    in_loop: bool
    reorders: bool
    precise: bool


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
        """Kernels in loops that only reorder data, and move `at_least` bytes or more."""
        return [
            one for one in self.kernels if one.reorders and one.in_loop and one.bytes >= at_least
        ]

    def precise_products(self) -> int:
        """Number of runs of products in full, or nearly full, float32 precision."""
        return sum(one.times for one in self.kernels if one.precise)

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
            current.append(parse(found[1], found[2]))
    if not entry:
        raise ValueError("XLA's text has no entry")
    return Program(list(_kernels(computations, entry, 1, False)), computations)


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
            fused = computations.get(one.called, ())
            cycles = _CYCLES.search(one.text)
            reorders = _reorders(one, shapes) or any(
                _reorders(part, {other.name: other.shape for other in fused}) for part in fused
            )
            kind = _kind(one, fused)
            given = sent(one, shapes) if kind == "collective" else 0
            yield Kernel(
                *(one, kind, times, moved(one, shapes, fused if one.opcode == "fusion" else ())),
                *(given, int(cycles[1]) if cycles else 0, in_loop, kind == "copy" and reorders),
                any(_PRECISE.search(part.text) for part in (one, *fused)),
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
