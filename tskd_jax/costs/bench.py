"""Benchmarks of a run's programs on the devices of this machine.

Every program is warmed up first and waits for its result. It alternates with what it is compared
with: square matrix products, which give its share of the peak, and the same program of another
config. Results are medians; the quartiles show how much the machine varies.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from tskd_jax.costs.fresh import filled, random_student
from tskd_jax.costs.program import Program
from tskd_jax.costs.programs import SEARCH
from tskd_jax.costs.report import measured, readable
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices, memory
from tskd_jax.machine.chips import of_kind
from tskd_jax.machine.throughput import flops_of, matmul_peak, product_rates
from tskd_jax.stitching import successors
from tskd_jax.stitching.neighbours import best_neighbour

COLUMNS = (
    *("program", "once", "times", "dtype", "seconds", "seconds_low", "seconds_high", "calls"),
    *("flops", "share_of_products", "at_least", "peak_bytes", "compile_seconds"),
    *("against_seconds", "ratio", "ratio_low", "ratio_high"),
)
LEAST_CALLS = 3
# A call shorter than `CALL` seconds takes more turns if its program can loop, up to `MOST_TURNS`:
# the overhead of a call is not a cost of the program.
CALL, MOST_TURNS = 0.05, 1 << 12

Turn = Callable[[], float]
"""Runs something once and returns the seconds per turn."""


def by_turns(sides: Sequence[Turn], seconds: float) -> np.ndarray:
    """Time several sides in alternation, for about `seconds` and at least `LEAST_CALLS` rounds.

    Returns:
      (rounds, sides) seconds; each side runs once per round.
    """
    spent: list[list[float]] = []
    end = time.perf_counter() + seconds
    while len(spent) < LEAST_CALLS or time.perf_counter() < end:
        spent.append([side() for side in sides])
    return np.array(spent)


class Runner:
    """A program, compiled for the devices of this machine.

    Args:
      program: a program of a run.
      most: the most seconds that a turn may take.

    Attributes:
      flops: operations of a turn's matrix products, all devices together.
      too_long: the least seconds that a turn can take, at the rate of square products, if that is
        more than `most`: then the program is not compiled and cannot be called. Otherwise 0.
      row: what is known about the program before it runs.
    """

    def __init__(self, program: Program, most: float):
        self._prepared = prepared = program.prepare(jax.devices(), filled)
        traced = prepared.trace()
        self.flops, self._dtype = flops_of(traced.jaxpr), program.dtype
        least = self.flops / (matmul_peak(program.dtype) * prepared.sharing)
        self.too_long = least if least > most else 0.0
        self.row = program.about | {"flops": self.flops}
        self._result: Any = None
        self._turns = self._done = 1
        self._took = 0.0
        if self.too_long:
            return
        begin = time.perf_counter()
        with devices.on(prepared.mesh):
            compiled = traced.lower().compile()
        self.row["compile_seconds"] = time.perf_counter() - begin
        self.row["peak_bytes"] = memory.of_program(compiled)
        if chip := of_kind(jax.devices()[0].device_kind):
            of_device = {"flops": self.flops // prepared.sharing, "dtype": program.dtype}
            found = measured(compiled, prepared.turns, chip, of_device)
            self.row["at_least"] = found["seconds"]
        self._warm()

    def __call__(self) -> float:
        """Seconds per turn, from one call with enough turns to be timed."""
        prepared = self._prepared
        arguments = prepared.again(prepared.arguments, self._result, self._turns)
        with devices.on(prepared.mesh):
            begin = time.perf_counter()
            result = jax.block_until_ready(prepared.function(*arguments))
            self._took = time.perf_counter() - begin
        self._result = result
        self._done = self._turns if prepared.done is None else max(1, prepared.done(result))
        return self._took / self._done

    def products(self) -> float:
        """Operations per second of square products in the program's dtype, on one device."""
        return max(map(float, map(np.median, product_rates(CALL, self._dtype))))

    def share(self, seconds: np.ndarray, rates: np.ndarray) -> float:
        """The program's share of the products' rate, by medians of seconds and of rates."""
        rate = self.flops / self._prepared.sharing / float(np.median(seconds))
        return rate / float(np.median(rates))

    def _warm(self) -> None:
        self()
        while self._prepared.turns and self._took < CALL and self._done == self._turns < MOST_TURNS:
            self._turns *= 2
            self()
        self()


def measure(program: Program, seconds: float, other: Program | None = None) -> dict[str, Any]:
    """Measure how long a turn of a program takes on this machine.

    Args:
      program: a program of a run.
      seconds: approximate time to measure for. A program whose turn would take longer even at the
        devices' peak rate is not measured: its row has `too_long`, the least seconds of a turn.
      other: the same program of another config, measured in alternation.

    Returns:
      A row with those of `COLUMNS` that are known.
    """
    one = Runner(program, seconds)
    if one.too_long:
        return one.row | {"too_long": one.too_long}
    another = None if other is None else Runner(other, seconds)
    if another is not None and another.too_long:
        another = None
    sides: list[Turn] = [one, one.products, *([another] if another else [])]
    spent = by_turns(sides, seconds)
    row = one.row | _of_times(spent[:, 0])
    row["share_of_products"] = one.share(spent[:, 0], spent[:, 1])
    if another:
        ratios = spent[:, 2] / spent[:, 0]
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        row |= {"ratio": middle, "ratio_low": low, "ratio_high": high}
        row["against_seconds"] = float(np.median(spent[:, 2]))
    return row


def measure_search(
    config: successors.Config, recorded: Trajectories, seconds: float
) -> dict[str, Any]:
    """Measure the search for a better state near each next state, with returns-to-go as values.

    Its time depends on the data, so noise cannot replace them.

    Args:
      config: the section of stitching.
      recorded: the dataset.
      seconds: approximate time to measure for.
    """
    states, returns = recorded.observations, recorded.returns_to_go(1.0)
    scale = successors.state_scale(recorded, config)
    queries, states = recorded.next_observations / scale, states / scale

    def search() -> float:
        begin = time.perf_counter()
        best_neighbour(queries, states, returns, config.radius, returns, config.backend)
        return time.perf_counter() - begin

    search()
    # The test depends on a trained ensemble.
    name = f"{SEARCH}, no density test" if config.rule == "density_first" else SEARCH
    row = {"program": name, "once": "dataset", "times": 0, "dtype": "float32"}
    return row | _of_times(by_turns([search], seconds))


def measure_decision(
    hidden: Sequence[int], recorded: Trajectories, task: Task, seconds: float
) -> dict[str, Any]:
    """Measure a student's decision for one observation with NumPy.

    Args:
      hidden: widths of the student's hidden layers.
      recorded: the dataset, whose first observation is used.
      task: gives the sizes of observations and actions, and the actions' bounds.
      seconds: approximate time to measure for.
    """
    student = random_student((task.state_size, *hidden, task.action_size), task.bounds)
    observation = recorded.observations[:1]

    def decide() -> float:
        begin = time.perf_counter()
        for _ in range(100):
            student(observation)
        return (time.perf_counter() - begin) / 100

    decide()
    row = {"program": "student: NumPy", "once": "decision", "times": 0, "dtype": "float32"}
    return row | _of_times(by_turns([decide], seconds))


def _of_times(spent: np.ndarray) -> dict[str, Any]:
    low, middle, high = np.quantile(spent, (0.25, 0.5, 0.75))
    return {"seconds": middle, "seconds_low": low, "seconds_high": high, "calls": len(spent)}


def line(row: dict[str, Any]) -> str:
    """Format a row as one line for a terminal."""
    name = f"{row['program']:<32}"
    if "too_long" in row:
        return f"{name} left out: {row['too_long']:.3g} s per {row['once']} at least"
    spread = f"{readable(row['seconds_low'])} … {readable(row['seconds_high'])}"
    parts = [f"{readable(row['seconds']):>8} per {row['once']} ({spread})"]
    if "share_of_products" in row:
        parts.append(f"{row['share_of_products']:4.0%} of what products reach")
    if "at_least" in row:
        parts.append(f"{row['seconds'] / row['at_least']:.2f} times the compiler's bound")
    if "ratio" in row:
        quarters = f"{row['ratio_low']:.3g} … {row['ratio_high']:.3g}"
        parts.append(f"against: {row['ratio']:.3g} times as long ({quarters})")
    return f"{name} {'  '.join(parts)}"


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """Reduce a row to `COLUMNS`, for a CSV file."""
    return {name: row.get(name, "") for name in COLUMNS}
