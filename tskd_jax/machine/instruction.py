"""An instruction in XLA's text of a compiled program, and the bytes that it moves."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BITS = {"pred": 8, "s4": 4, "u4": 4, "c64": 64, "c128": 128}
# Of their first operand, they read only what they return.
_PARTS = {"gather", "dynamic-slice"}
# Their result lists the operand, too.
_WITH_OPERAND = {"copy-start", "all-gather-start", "collective-permute-start"}

_ARRAY = re.compile(r"\b([a-z]+[0-9]*(?:e[0-9]m[0-9][a-z]*)?)\[([0-9,]*)\]")
# The workspace of a library call, listed after its results.
_WORKSPACE = re.compile(r", (?:/\*index=\d+\*/)?[us]8\[\d+\](?:\{0\})?\)$")
_OPCODE = re.compile(r" ([a-z][a-z0-9\-]*)\(")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%([^\s,)}]+)")
_PARAMETER = re.compile(r" parameter\((\d+)\)")
_MESH_GROUPS = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_SHAPED_GROUPS = re.compile(r"replica_groups=\[\d+,(\d+)\]")
_LISTED_GROUPS = re.compile(r"replica_groups=\{\{([0-9,]+)\}")


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


def parse(name: str, text: str) -> Instruction:
    """Parse a line: what stands before its equals sign, and what stands behind it."""
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


def size_of(shape: str) -> int:
    """Bytes of all arrays in a shape's text, also of nested tuples."""
    total = 0
    for dtype, dimensions in _ARRAY.findall(shape):
        digits = re.search(r"\d+", dtype)
        bits = BITS.get(dtype) or (int(digits[0]) if digits else 0)
        total += math.prod(int(n) for n in dimensions.split(",") if n) * bits
    return total // 8


def moved(one: Instruction, shapes: Mapping[str, str], fused: Sequence[Instruction]) -> int:
    """Bytes that an instruction reads and writes.

    Args:
      one: the instruction.
      shapes: name -> shape, of its operands.
      fused: the computation that it calls, if it is a fusion.
    """
    if one.opcode in _WITH_OPERAND:
        return size_of(one.shape)
    if one.opcode == "custom-call":
        total = size_of(_WORKSPACE.sub("", one.shape))
    else:
        total = _written(fused[-1], fused, shapes) if fused else _written(one, [], shapes)
    inside = {int(n[1]): part.name for part in fused if (n := _PARAMETER.search(part.text))}
    for place, name in enumerate(one.operands):
        size = size_of(shapes.get(name, ""))
        taken = _taken(inside[place], size, fused) if place in inside else _taken(name, size, [one])
        total += min(size, taken)
    return total


def _written(one: Instruction, among: Sequence[Instruction], shapes: Mapping[str, str]) -> int:
    """Bytes that an instruction of a computation writes; of an update in place, the new part.

    Args:
      one: the instruction.
      among: the fused computation that it is the root of; empty if it stands by itself.
      shapes: name -> shape of the operands of what stands by itself.
    """
    inside = {part.name: part for part in among}
    if one.opcode == "tuple" and among:
        return sum(_written(inside[name], among, shapes) for name in one.operands)
    if one.opcode == "bitcast" and among:
        return _written(inside[one.operands[0]], among, shapes)
    if one.opcode == "dynamic-update-slice" and _is_given(one.operands[0], inside):
        new = one.operands[1]
        return size_of(inside[new].shape if new in inside else shapes.get(new, ""))
    return size_of(one.shape)


def _is_given(name: str, inside: Mapping[str, Instruction]) -> bool:
    """Whether a value is an operand of the whole computation, and not computed in it."""
    while name in inside and inside[name].opcode == "bitcast":
        name = inside[name].operands[0]
    return name not in inside or inside[name].opcode == "parameter"


def _taken(name: str, size: int, users: Sequence[Instruction]) -> int:
    """Bytes that instructions read of a value of `size` bytes, each for itself."""
    total = 0
    for one in users:
        if name not in one.operands:
            continue
        if one.opcode == "bitcast":
            total += _taken(one.name, size, users)
        elif one.opcode in _PARTS and name not in one.operands[1:]:
            total += size_of(one.shape)
        elif one.opcode == "dynamic-update-slice" and name not in one.operands[1:]:
            pass  # it is changed in place
        else:
            total += size
    return total


def sent(one: Instruction, shapes: Mapping[str, str]) -> int:
    """Bytes that a device sends around the ring of its group; arguments as for `moved`."""
    size, given = group_size(one.text), sum(size_of(shapes.get(name, "")) for name in one.operands)
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
