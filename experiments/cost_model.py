"""What a run costs on machines that are not at hand, per stage, from its config alone.

    python experiments/cost_model.py [--config=configs/hopper.py] [--machines=H200,8xH200,v5e-64]
        [--measured=summary.json] [--name=NAME]

Nothing is run: the pipeline's own programs are traced, and the operations and bytes of their matrix
products are counted. `times` is how often the program named by the stage runs (updates; plans of a
chunk of trajectories; for stitching its parts together). A machine takes

    max(operations / (0.5 peak), bytes / (0.8 bandwidth)) + 3 launches a product + communication

seconds for each; which devices share what is `devices.shape_of`. Bytes are those of activations
(operands and results of products, once each), which are split by rows, and of parameters (twice a
forward and backward pass, and Adam's), which are not. Communication is the gradients' ring
all-reduce. Not counted: compilation, checkpoints, the host's part of stitching (trees, the walk)
and the simulator.

--measured takes a finished run's config and what only a run knows (lengths of imagined
trajectories, stitched edges), and puts its seconds beside those of the first machine; give that of
the run as the first. `here` is this machine, whose peak and bandwidth are measured. Prints a table
and writes NAME.csv into --results.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags
from ml_collections import config_flags
from tables import show, write
from untrained import begun, fresh_trajectory_generator

from tskd_jax.config import finalize
from tskd_jax.data import load
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task, get_task
from tskd_jax.errors import ConfigError
from tskd_jax.machine import devices
from tskd_jax.machine.signals import Request
from tskd_jax.machine.throughput import flops_of_product, matmul_peak, over_products
from tskd_jax.machine.types import Config
from tskd_jax.main import told_in_one_line
from tskd_jax.methods import replay as replay_module
from tskd_jax.methods.method import variants
from tskd_jax.models import baseline as expectation
from tskd_jax.models import cloning as behavioural_cloning
from tskd_jax.models import dynamics, inverse_dynamics, value
from tskd_jax.teacher import reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds
from tskd_jax.training.seeds import pipeline_seeds
from tskd_jax.training.training import Hooks, make_update, of_first_axis

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


def training(train: Callable[[], Any], place: Any = seeds, dtype: str = "float32") -> Work:
    """The work of a training, which is begun and not done.

    Args:
      train: calls `place.fit`.
      place: the module through which it does.
      dtype: of the products.
    """

    what = begun(train, place)
    init, loss, draw, data, optimizer, key = (
        what[name] for name in ("init", "loss", "draw", "data", "optimizer", "key")
    )
    data = of_first_axis(data, what.get("data_axes"), 0)
    one, accumulate = key.ravel()[0], what.get("accumulate") or 1
    params = jax.eval_shape(init, one)
    state = params, params, jax.eval_shape(optimizer.init, params)
    update = make_update(loss, draw, optimizer, what.get("ema") or seeds.Ema(), accumulate)
    step = jnp.zeros((), jnp.int32)
    flops, moved, products = traced(update, *state, one, step, data, False)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    batch = jax.tree.leaves(jax.eval_shape(draw, data, one))[0]
    # Weights, forward and backward, and their gradients are operands and results, too.
    activations = max(0, moved - 3 * size * accumulate)
    return Work(
        what["steps"],
        flops * key.size,
        activations * key.size,
        PASSES * size * key.size,
        size * key.size,
        products,
        key.shape,
        batch.shape[0],
        dtype,
    )


def generation(
    model: Diffuser, program: Callable, batch: int, times: float, of_seeds: int, *arguments: Any
) -> Work:
    """The work of sampling for so many rows at a time.

    Args:
      model: whose network is called.
      program: (model, *arguments) -> samples.
      batch: rows at a time.
      times: how often.
      of_seeds: side by side, or one after another.
      *arguments: shapes of `batch` rows.
    """
    flops, moved, products = traced(program, model, *arguments)
    row = jax.ShapeDtypeStruct((1,), jnp.float32)
    dim = model.params["params"]["out"]["bias"].shape[-1]
    x = jax.ShapeDtypeStruct((1, model.config.horizon, dim), jnp.float32)
    _, _, of_call = traced(model.noise, model.params, x, row, row, row)
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


def works(config: Config, recorded: Trajectories, task: Task, known: dict) -> dict[str, list[Work]]:
    """The work of each stage.

    Args:
      config: final.
      recorded: the dataset.
      task: the config's.
      known: `stages` of a summary; empty before the run.
    """
    of_seeds = len(pipeline_seeds(config))
    keys, hooks = jax.random.split(jax.random.key(0), of_seeds), Hooks()
    generator, expected = fresh_trajectory_generator(config, recorded)
    pricer = reward_generator.create(config.reward_generator, recorded)
    inverse = inverse_dynamics.create(config.inverse_dynamics, recorded, task)
    stages = {
        "inverse_dynamics": lambda: inverse_dynamics.train_seeds(
            inverse, config.inverse_dynamics, recorded, keys, hooks
        ),
        "dynamics": lambda: dynamics.train_seeds(config.dynamics, recorded, keys, hooks),
        "trajectory_generator": lambda: trajectory_generator.train_seeds(
            generator, recorded, keys, hooks, expected
        ),
        "reward_generator": lambda: reward_generator.train_seeds(
            pricer, recorded, keys, hooks, config.reward_sampling
        ),
    }
    dtypes = {name: config[name].get("dtype", "float32") for name in stages}
    made = {name: [training(train, dtype=dtypes[name])] for name, train in stages.items()}
    if expected is not None:
        made["expectation"] = [
            training(
                lambda: expectation.train(
                    config.expectation, recorded, config.trajectory_generator.discount, hooks
                ),
                expectation,
            )
        ]
    if config.imagination.enabled:
        made["imagination"] = [imagination(config, generator, recorded, task, known)]
    made["stitching"] = stitching(config, pricer, recorded, task, known, keys)
    student = training(
        lambda: behavioural_cloning.train(
            "student", config.student, recorded, task, tuple(config.seeds), hooks
        )
    )
    kinds = 2 + len(variants(config))  # both kinds of BC, and TSKD with and without its parts
    made["student"] = [replace(student, times=student.times * kinds)]
    if config.evaluation.teacher_episodes:
        made["evaluation.teacher"] = [
            plans(config, generator, config.evaluation.teacher_episodes, 1, task.episode_limit, 1)
        ]
    return made


def plans(
    config: Config, model: Diffuser, batch: int, stride: int, steps: float, of_seeds: int
) -> Work:
    """The work of so many steps of trajectories in lockstep."""
    context, size = model.config.context, model.states.low.shape[0]
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))

    def program(model, history, keys):
        earlier = trajectory_generator.no_plan(model, batch)
        now = jnp.int32(context)
        return trajectory_generator.replan(
            model, config.sampling, history, now, keys, earlier, now, stride
        )

    history = jax.ShapeDtypeStruct((batch, context, size), jnp.float32)
    return generation(model, program, batch, steps / stride, of_seeds, history, keys)


def imagination(
    config: Config, model: Diffuser, recorded: Trajectories, task: Task, known: dict
) -> Work:
    """All plans of all trajectories; to the limit, unless it is known how long they became."""
    count = config.imagination.trajectories * config.stitching.epochs
    if config.imagination.starts != "episodes":
        count = min(count, recorded.size)
    of_seeds = len(pipeline_seeds(config))
    chunk = min(count, max(1, config.imagination.chunk // of_seeds))
    length = config.imagination.length or task.episode_limit
    length = known.get("imagination", {}).get("imagined_mean_length", length)
    steps = math.ceil(length / config.sampling.stride) * config.sampling.stride
    return plans(config, model, chunk, config.sampling.stride, steps * count / chunk, of_seeds)


def stitching(
    config: Config, pricer: Diffuser, recorded: Trajectories, task: Task, known: dict, keys: Any
) -> list[Work]:
    """Values, search and rewards of all epochs, of TSKD and where it is one of TSKD's parts."""
    if not config.stitching.enabled:
        return []
    of_seeds = len(keys)
    names = [name for name, _, stitches in variants(config) if stitches]
    epochs = config.stitching.epochs * len(names)
    values = training(lambda: value.train_seeds(config.value, [recorded] * of_seeds, keys, Hooks()))
    size, rows = task.state_size, recorded.size
    # Every query against every state: what the accelerator's search does at most.
    search = Work(epochs * of_seeds, 2 * size * rows**2, 4 * size * rows, 4 * size * rows, 0, 1)
    told = [known.get(f"stitching.{name}", {}).get("edges_unique") for name in names]
    edges = [STITCHED.value * rows if count is None else count for count in told]
    batch = 512
    pair = jax.ShapeDtypeStruct((batch, size), jnp.float32)
    row_keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))

    def program(model, states, next_states, keys):
        return reward_generator._rewards(model, config.reward_sampling, states, next_states, keys)

    times = of_seeds * sum(math.ceil(count / batch) for count in edges)
    priced = generation(pricer, program, batch, times, 1, pair, pair, row_keys)
    return [replace(values, times=values.times * epochs), search, priced]


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
      measured: stage -> seconds; empty where nothing was measured.
    """
    table = []
    for stage, parts in made.items():
        row: dict[str, Any] = {
            "stage": stage,
            "times": sum(work.times for work in parts),
            "tflop": sum(work.times * work.flops for work in parts) / 1e12,
            "tbyte": sum(w.times * (w.activations + w.parameters) for w in parts) / 1e12,
        }
        for name, machine in machines.items():
            row[f"{name}_seconds"] = sum(work.seconds(machine) for work in parts)
            row[f"{name}_sent_gbyte"] = sum(w.times * w.sent(machine) for w in parts) / 1e9
        if measured:
            own = [s for name, s in measured.items() if f"{name}.".startswith(f"{stage}.")]
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
        summary, config = replay_module.read(Path(MEASURED.value))
    else:
        config = finalize(CONFIG.value)
    task = get_task(config.environment.name)
    recorded = load.load_dataset(config.dataset.path or config.dataset.name)
    machines = {name: here() if name == "here" else MACHINES[name] for name in CHOSEN.value}
    made = works(config, recorded, task, summary["stages"])
    table = table_of(made, machines, summary["seconds"])
    for row in table:
        show(row)
    write(table, RESULTS.value, NAME.value)
    return 0


def main(_argv) -> int:
    return told_in_one_line(estimate)


if __name__ == "__main__":
    app.run(main)
