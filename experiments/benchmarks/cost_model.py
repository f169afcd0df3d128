"""What a run costs on machines that are not at hand, per stage, from its config alone.

    python -m experiments.benchmarks.cost_model [--config=configs/hopper.py]
        [--machines=H200,8xH200,v5e-64] [--measured=summary.json] [--name=NAME]

Nothing is run: the methods of the config say which stages there are, the stages' own programs are
traced, and the operations and bytes of their matrix products are counted. What several methods
share counts once, as in a run. `times` is how often the program named by the stage runs (updates;
plans of a chunk of trajectories; for stitching its parts together). A machine takes

    max(operations / (0.5 peak), bytes / (0.8 bandwidth)) + 3 launches a product + communication

seconds for each; which devices share what is `devices.shape_of`. Bytes are those of activations
(operands and results of products, once each), which are split by rows, and of parameters (twice a
forward and backward pass, and Adam's), which are not. Communication is the gradients' ring
all-reduce. Not counted: compilation, checkpoints, the host's part of stitching (trees, the walk),
DDR-I's plans that `few_steps` learns from, and the simulator.

--measured takes a finished run's config and what only a run knows (lengths of imagined
trajectories, stitched edges), and puts its seconds beside those of the first machine; give that of
the run as the first. `here` is this machine, whose peak and bandwidth are measured. Prints a table
and writes NAME.csv into --results.

One file over 300 lines: the table is one computation, read from top to bottom.
"""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from experiments.tables import show, write
from tskd_jax.cli.comparison import comparisons
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.config import Config, finalize
from tskd_jax.costs.stages import is_training, stages_of, training_of
from tskd_jax.data import load
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.machine import devices
from tskd_jax.machine.signals import Request
from tskd_jax.machine.throughput import flops_of_product, matmul_peak, over_products
from tskd_jax.methods.parts import imagining
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.methods.parts.stitching import stitching as stitch_epoch
from tskd_jax.report import replay
from tskd_jax.run.stages import Call
from tskd_jax.teacher import planning, reward_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training.seeds import of_seed
from tskd_jax.training.training import Training, make_update

SHARE_OF_PEAK, SHARE_OF_BANDWIDTH = 0.5, 0.8
LAUNCHES = 3  # of kernels for each product: itself and what is fused around it
# Passes over the parameters in an update: weights forward and backward, gradient written and read,
# Adam's two moments, the parameters and their average each read and written.
PASSES = 2 + 2 + 4 + 2 + 2


@dataclass(frozen=True)
class Machine:
    """Devices that are joined evenly.

    Attributes:
      count: devices.
      peak: operations a second of a device, by dtype; float32 in the precision that XLA takes by
        default (TF32 on the H200, one pass of bfloat16 on the TPU).
      bandwidth: bytes a second of a device's memory.
      link: bytes a second that a device sends to others.
      launch: seconds from one kernel to the next.
      latency: seconds before an all-reduce moves anything.
    """

    count: int
    peak: dict[str, float]
    bandwidth: float
    link: float
    launch: float
    latency: float


_H200 = Machine(1, {"float32": 494e12, "bfloat16": 989e12}, 4.8e12, 450e9, 3e-6, 15e-6)
# Vendors' figures: dense products, and one direction of all links.
MACHINES = {
    "H200": _H200,
    "8xH200": replace(_H200, count=8),
    "v5e-64": Machine(64, dict.fromkeys(_H200.peak, 197e12), 819e9, 100e9, 1e-6, 30e-6),
}

CONFIG = config_flags.DEFINE_config_file("config", "configs/hopper.py")
CHOSEN = flags.DEFINE_list("machines", list(MACHINES), f"Of {(*MACHINES, 'here')}.")
MEASURED = flags.DEFINE_string("measured", None, "The summary.json of a run; instead of --config.")
STITCHED = flags.DEFINE_float("stitched", 0.01, "Share of transitions stitched, unless measured.")
NAME = flags.DEFINE_string("name", "hopper", "Of the results.")
RESULTS = flags.DEFINE_string("results", "experiments/results/cost_model", "Folder.")


@dataclass(frozen=True)
class Work:
    """A program that runs so many times.

    Attributes:
      times: how often it runs.
      flops: of its products, all members together.
      activations: bytes that are split over members and rows.
      parameters: bytes that are split over members only.
      gradients: bytes that devices which share rows have to sum.
      products: how many there are, one after another.
      members: as of `devices.mesh`.
      rows: likewise.
      dtype: of the products.
    """

    times: int
    flops: int
    activations: int
    parameters: int
    gradients: int
    products: int
    members: tuple[int, ...] = ()
    rows: int | None = None
    dtype: str = "float32"

    def sent(self, machine: Machine) -> float:
        """Bytes that a device sends each time."""
        *members, of_rows, _ = devices.shape_of(machine.count, self.members, self.rows)
        return 2 * (of_rows - 1) / of_rows * self.gradients / math.prod(members)

    def seconds(self, machine: Machine) -> float:
        """Of all times together."""
        *members, of_rows, _ = devices.shape_of(machine.count, self.members, self.rows)
        of_members = math.prod(members)
        share = 1 / (of_members * of_rows)
        moved = self.activations * share + self.parameters / of_members
        once = max(
            self.flops * share / (SHARE_OF_PEAK * machine.peak[self.dtype]),
            moved / (SHARE_OF_BANDWIDTH * machine.bandwidth),
        )
        once += self.products * LAUNCHES * machine.launch
        if sent := self.sent(machine):
            once += sent / machine.link + machine.latency
        return self.times * once


def bytes_of_product(equation: Any) -> int:
    """Of operands and result, each once."""
    arrays = [variable.aval for variable in (*equation.invars, *equation.outvars)]
    return sum(array.size * array.dtype.itemsize for array in arrays)


def traced(function: Callable, *arguments: Any) -> tuple[int, int, int]:
    """(operations, bytes, number) of the products of a function; nothing is computed."""
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    costs = (flops_of_product, bytes_of_product, lambda _: 1)
    flops, moved, number = (over_products(jaxpr, cost) for cost in costs)
    return flops, moved, number


def training(plan: Training, dtype: str = "float32") -> Work:
    """The work of a training.

    Args:
      plan: what is not done here.
      dtype: of the products.
    """
    keys, accumulate = plan.keys, plan.accumulate
    one = keys.ravel()[0]
    data = plan.seen_by((0,) * keys.ndim)
    params = jax.eval_shape(plan.init, one)
    state = params, params, jax.eval_shape(plan.optimizer.init, params)
    step = jnp.zeros((), jnp.int32)
    flops, moved, products = traced(make_update(plan), *state, one, step, data, False)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    batch = jax.tree.leaves(jax.eval_shape(plan.draw, data, one))[0]
    # Weights, forward and backward, and their gradients are operands and results, too.
    activations = max(0, moved - 3 * size * accumulate)
    return Work(
        plan.steps,
        flops * keys.size,
        activations * keys.size,
        PASSES * size * keys.size,
        size * keys.size,
        products,
        keys.shape,
        batch.shape[0],
        dtype,
    )


def generation(
    model: Diffuser, program: Callable, batch: int, times: float, of_seeds: int, *arguments: Any
) -> Work:
    """The work of sampling for so many rows at a time.

    Args:
      model: whose networks are called, of one seed.
      program: (model, *arguments) -> samples.
      batch: rows at a time.
      times: how often.
      of_seeds: side by side, or one after another.
      *arguments: shapes of `batch` rows.
    """
    flops, moved, products = traced(program, model, *arguments)
    row = jax.ShapeDtypeStruct((1,), jnp.float32)
    x = jax.ShapeDtypeStruct((1, model.config.horizon, model.token_size), jnp.float32)
    step = jax.ShapeDtypeStruct((1,), jnp.int32)
    _, _, of_call = traced(model.noise, model.params, x, step, row, row)
    sizes = [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(model.params)]
    weights = sum(sizes) * max(1, products // of_call)
    return Work(
        math.ceil(times),
        flops * of_seeds,
        max(0, moved - weights) * of_seeds,
        weights * of_seeds,
        0,
        products,
        rows=None,
        dtype=model.config.dtype,
    )


def works(
    config: Config, recorded: Trajectories, task: Task, known: dict, stitched: float
) -> dict[str, list[Work]]:
    """The work of each group of stages, as `student` of all students.

    Args:
      config: final.
      recorded: the dataset.
      task: the config's.
      known: `stages` of a summary; empty before the run.
      stitched: share of the transitions that is stitched, where it is not known.
    """
    calls, outcome = stages_of(comparisons(config), recorded, task)
    made: dict[str, list[Work]] = {}
    for call in calls:
        if parts_of_call := work_of(call, recorded, known, stitched):
            made.setdefault(call.name.partition(".")[0], []).extend(parts_of_call)
    episodes, teachers = config.evaluation.teacher_episodes, outcome.teachers if outcome else ()
    if episodes and teachers:
        model = of_seed(teachers[0].trajectory_generator, 0)
        work = plans(model, config.sampling, episodes, 1, task.episode_limit, 1)
        one_after_another = len(config.pipeline_seeds) * len(teachers)
        made["evaluation.teacher"] = [work] * one_after_another
    return made


def work_of(call: Call, recorded: Trajectories, known: dict, stitched: float) -> list[Work]:
    """The work of a stage; nothing where no product of matrices counts."""
    if is_training(call):
        return [training(training_of(call), getattr(call.config, "dtype", "float32"))]
    if call.function is imagining.imagine:
        return [imagination(call, known)]
    if call.function is imagining.plan_in_simulator:
        teacher, task, count = call.inputs
        model = of_seed(teacher.trajectory_generator, 0)
        return [plans(model, call.config, count, 1, task.episode_limit, 1)] * len(call.seeds)
    if call.function is stitch_epoch:
        return stitching(call, recorded, known, stitched)
    return []


def plans(
    model: Diffuser, sampling: SamplingConfig, batch: int, every: int, steps: float, of_seeds: int
) -> Work:
    """The work of so many steps of trajectories in lockstep, with a new plan `every` so many."""
    context, size = model.config.context, model.states.low.shape[0]
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))

    def program(model, history, keys):
        earlier = planning.no_plan(model, batch)
        now = jnp.int32(context)
        return planning.replan(model, sampling, history, now, keys, earlier, now, every)

    history = jax.ShapeDtypeStruct((batch, context, size), jnp.float32)
    return generation(model, program, batch, steps / every, of_seeds, history, keys)


def imagination(call: Call, known: dict) -> Work:
    """All plans of all trajectories; to the limit, unless it is known how long they became."""
    sampling, teacher, task, states, _, count, max_steps, repeat_states = call.inputs
    if not repeat_states:
        count = min(count, len(states))
    of_seeds, every = len(call.seeds), sampling.replan_every
    chunk = min(count, max(1, call.config.chunk // of_seeds))
    length = known_number(known, call.name, "imagined", "mean_length")
    if length is None:
        length = min(max_steps, task.episode_limit)
    steps = math.ceil(length / every) * every
    model = of_seed(teacher.trajectory_generator, 0)
    return plans(model, sampling, chunk, every, steps * count / chunk, of_seeds)


def stitching(call: Call, recorded: Trajectories, known: dict, stitched: float) -> list[Work]:
    """Search and rewards of an epoch."""
    _, _, pricing, task, _ = call.inputs
    size, rows, of_seeds = task.state_size, recorded.size, len(call.seeds)
    # Every query against every state: what the accelerator's search does at most.
    search = Work(of_seeds, 2 * size * rows**2, 4 * size * rows, 4 * size * rows, 0, 1)
    if not isinstance(pricing, DiffusionPricing):
        return [search]  # a few layers for each edge
    model, sampling = of_seed(pricing.reward_generator, 0), pricing.sampling
    edges = known_number(known, call.name, "edges_unique")
    if edges is None:
        edges = stitched * rows
    batch = 512
    pair = jax.ShapeDtypeStruct((batch, size), jnp.float32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))

    def program(model, states, next_states, keys):
        return reward_generator.rewards_of_batch(model, sampling, states, next_states, keys)

    times = of_seeds * math.ceil(edges / batch)
    return [search, generation(model, program, batch, times, 1, pair, pair, keys)]


def known_number(known: dict, stage: str, *path: str) -> float | None:
    """The mean over seeds of a number in a stage's metrics; None where it is not known."""
    metrics = known.get(stage, {})
    of_each = metrics.get("of_seed", {"": metrics}).values()
    found = [functools.reduce(lambda part, key: part.get(key, {}), path, one) for one in of_each]
    return None if {} in found else float(np.mean(found))


def here() -> Machine:
    """This machine, measured; its devices are taken to share nothing that binds them."""
    peak = matmul_peak()
    x = jnp.ones(1 << 26)
    copy = jax.jit(lambda x: x + 1)
    copy(x).block_until_ready()
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        copy(x).block_until_ready()
        spent.append(time.perf_counter() - begin)
    bandwidth = 2 * x.nbytes / min(spent)
    return Machine(
        jax.device_count(), dict.fromkeys(_H200.peak, peak), bandwidth, bandwidth, 3e-6, 15e-6
    )


def table_of(
    made: dict[str, list[Work]], machines: dict[str, Machine], measured: dict[str, float]
) -> list[dict[str, Any]]:
    """A row for each stage, and one for their sum.

    Args:
      made: from `works`.
      machines: name -> machine; a measured run was on the first.
      measured: stage -> seconds; empty where nothing was measured. Behind a dash is the key of
        a stage whose name another one has.
    """
    table = []
    for stage, programs in made.items():
        row: dict[str, Any] = {
            "stage": stage,
            "times": sum(work.times for work in programs),
            "tflop": sum(work.times * work.flops for work in programs) / 1e12,
            "tbyte": sum(w.times * (w.activations + w.parameters) for w in programs) / 1e12,
        }
        for name, machine in machines.items():
            row[f"{name}_seconds"] = sum(work.seconds(machine) for work in programs)
            row[f"{name}_sent_gbyte"] = sum(w.times * w.sent(machine) for w in programs) / 1e9
        if measured:
            names = {name: f"{name.partition('-')[0]}." for name in measured}
            own = [s for name, s in measured.items() if names[name].startswith(f"{stage}.")]
            row["measured_seconds"] = sum(own)
            row["measured_over_model"] = sum(own) / max(
                row[f"{next(iter(machines))}_seconds"], 1e-9
            )
        table.append(row)
    total = {name: sum(row[name] for row in table) for name in table[0] if name != "stage"}
    if measured:
        first = total[f"{next(iter(machines))}_seconds"]
        total["measured_over_model"] = total["measured_seconds"] / max(first, 1e-9)
    return [*table, {"stage": "all"} | total]


def estimate(_request: Request) -> int:
    """The table; gives the exit status."""
    unknown = [name for name in CHOSEN.value if name not in (*MACHINES, "here")]
    if unknown or not CHOSEN.value:
        raise ConfigError(f"--machines={','.join(CHOSEN.value)}: allowed: {(*MACHINES, 'here')}")
    summary: dict[str, Any] = {"stages": {}, "seconds": {}}
    if MEASURED.value:
        summary, config = replay.read(Path(MEASURED.value))
    else:
        config, _ = finalize(CONFIG.value)
    task = get_task(config.environment.name)
    recorded = load.load_dataset(config.dataset.path or config.dataset.name)
    machines = {name: here() if name == "here" else MACHINES[name] for name in CHOSEN.value}
    made = works(config, recorded, task, summary["stages"], STITCHED.value)
    table = table_of(made, machines, summary["seconds"])
    for row in table:
        show(row)
    write(table, RESULTS.value, NAME.value)
    return 0


def main(_argv) -> int:
    return run_to_exit_status(estimate)


if __name__ == "__main__":
    app.run(main)
