"""A compiled program of a run, and the arguments that it needs on given devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh, PartitionSpec

from tskd_jax.machine import devices

# How a program's arguments are placed: `devices.shapes`, or like `fresh.filled`.
Place = Callable[[Any, PartitionSpec, Mesh], Any]


def _the_same(arguments: tuple, _result: Any, _turns: int) -> tuple:
    return arguments


@dataclass(frozen=True)
class Prepared:
    """A program with its arguments, for given devices.

    Attributes:
      function: the jitted function.
      arguments: shapes or arrays, with their shardings.
      mesh: the devices.
      again: (arguments, result of the previous call or None, turns) -> arguments of the next call,
        which takes that many turns of the outer loop. By default, for a program without an outer
        loop, the same arguments.
      done: result -> turns that the call took; None: as many as it was called with, else one.
    """

    function: Any
    arguments: tuple
    mesh: Mesh
    again: Callable[[tuple, Any, int], tuple] = _the_same
    done: Callable[[Any], int] | None = None

    @property
    def sharing(self) -> int:
        """Number of devices that share the work; the others repeat it."""
        return self.mesh.size // self.mesh.shape["copies"]

    @property
    def turns(self) -> bool:
        """Whether one call may take several turns."""
        return self.again is not _the_same

    def trace(self) -> Any:
        """Trace the program."""
        with devices.on(self.mesh):
            return self.function.trace(*self.arguments)


@dataclass(frozen=True)
class Program:
    """A program of a run. If it has an outer loop, its costs are those of one turn.

    Attributes:
      name: the stage, and which part of it; further programs of a stage have a number behind it.
      once: what one turn is, in words.
      times: number of turns in a run in which nothing ends early; 0 if it is known only during the
        run.
      dtype: dtype of its matrix products.
      prepare: (devices, existing or not; how to place arguments) -> the program for these devices.
    """

    name: str
    once: str
    times: int
    dtype: str
    prepare: Callable[[Sequence[Any], Place], Prepared]

    @property
    def stage(self) -> str:
        """The name without a number."""
        return self.name.partition(" (")[0]

    @property
    def about(self) -> dict[str, Any]:
        """The program's columns in a table."""
        names = {"program": self.name, "once": self.once, "times": self.times}
        return names | {"dtype": self.dtype}


Keyed = tuple[Any, Program]
"""A program, after a key that equal programs share."""


def padded(rows: int, mesh: Mesh) -> int:
    """As `devices.padded`, for the given mesh."""
    return -(-rows // mesh.size) * mesh.size
