"""Updates per second of every model, of one seed and of five in one program.

    python -m experiments.benchmarks.training [--presets=quick,small,paper] [--models=…]
        [--name=NAME]

Each model is trained on the embedded dataset, as `configs/hopper.py` has it at that preset, until
`--seconds` of warm updates have been seen; the median chunk counts. `members` is how many train
side by side under vmap. `loop_over_alone` compares an update inside the compiled loop with the same
update compiled by itself (1 is equal, more is slower inside). The share of the peak is that of
the fastest of many square matrix products in the same run; `share_of_sustained` compares medians:
of updates compiled by themselves, and of products that take turns with them. Prints a table and
writes NAME.csv into --results.
"""

import contextlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.tables import device_name, show, write
from tskd_jax.config import Config, finalize, make_config
from tskd_jax.costs.fresh import needed_baseline
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.tasks import Task
from tskd_jax.machine.throughput import matmul_peak, product_rates
from tskd_jax.models import cloning, dynamics, inverse_dynamics, value
from tskd_jax.nn.convolution import FORMS, convolution_form
from tskd_jax.presets import PRESETS
from tskd_jax.teacher import reward_generator, trajectory_generator
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Training, make_update

MODELS = (
    *("trajectory_generator", "reward_generator", "inverse_dynamics", "dynamics"),
    *("value", "student"),
)
SEEDS = (1, 5)  # trained side by side
TURN = 0.2  # seconds of updates, at least, between products
PRESETS_FLAG = flags.DEFINE_list("presets", ["quick", "small"], f"Of {tuple(PRESETS)}.")
CHOSEN = flags.DEFINE_list("models", list(MODELS), "What is trained.")
MOST_MEMBERS = flags.DEFINE_integer("most_members", 35, "Trained side by side, at most.", 1)
SECONDS = flags.DEFINE_float("seconds", 5.0, "Of warm updates a model.", 0.0)
FORM = flags.DEFINE_enum("convolution", "auto", FORMS, "Form of every convolution.")
HORIZON = flags.DEFINE_integer("horizon", None, "Tokens of DDR-I; None: as the config has it.", 2)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_training", "Folder.")


def alone(training: Training) -> tuple[float, float]:
    """Medians of an update compiled by itself, and of square matrix products in turn with it.

    Returns:
      (seconds of an update, state donated as in `fit`; operations a second of products).
    """

    init, optimizer, keys = training.init, training.optimizer, training.keys
    update = make_update(training)
    opt_state = optimizer.init
    for axis in reversed(range(keys.ndim)):
        of_data = training.data_axes if axis == 0 else None
        init, opt_state = jax.vmap(init), jax.vmap(opt_state)
        update = jax.vmap(update, in_axes=(0, 0, 0, 0, None, of_data))
    params = jax.jit(init)(keys)
    state = params, jax.tree.map(jnp.copy, params), opt_state(params)
    data = jax.tree.map(jnp.asarray, training.data)
    step = jax.jit(lambda state, index: update(*state, keys, index, data)[:3], donate_argnums=0)
    state = jax.block_until_ready(step(state, 0))  # compiles
    spent, rates = [], []
    end = time.perf_counter() + 2 * SECONDS.value
    while len(spent) < 5 or time.perf_counter() < end:
        turn = time.perf_counter()
        # Many short updates a turn: what products leave in the caches is not theirs.
        while time.perf_counter() - turn < TURN:
            begin = time.perf_counter()
            state = jax.block_until_ready(step(state, 1 + len(spent)))
            spent.append(time.perf_counter() - begin)
        rates.append(product_rates(time.perf_counter() - turn))
    of_sizes = [np.median(np.concatenate(of_size)) for of_size in zip(*rates, strict=True)]
    return float(np.median(spent)), float(max(of_sizes))


class Enough(Exception):
    """The watched training has shown its speed."""


class Watch:
    """Collects the speed of a training and ends it."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.flops = 0.0
        self._begun = 0.0

    def __call__(self, done: int, steps: int, metrics: dict[str, float]) -> None:
        if "steps_per_second" not in metrics:
            self._begun = time.perf_counter()
            return
        self.rates.append(metrics["steps_per_second"])
        self.flops = metrics["matmul_flops_per_second"] / metrics["steps_per_second"]
        if time.perf_counter() - self._begun > SECONDS.value and len(self.rates) > 2:
            raise Enough


def training_of(
    model: str, seeds: int, config: Config, recorded: Trajectories, task: Task
) -> Training:
    """The training of a model for so many seeds."""
    keys = jax.random.split(jax.random.key(0), seeds)
    section = getattr(config, model)
    if model == "trajectory_generator":
        expected = needed_baseline(config, recorded, keys)
        return trajectory_generator.training(section, recorded, expected, None, keys)[0]
    if model == "reward_generator":
        return reward_generator.training(section, recorded, keys)[0]
    if model == "inverse_dynamics":
        return inverse_dynamics.training(section, recorded, task, keys)[0]
    if model == "dynamics":
        return dynamics.training(section, recorded, keys)[0]
    if model == "value":
        return value.training(section, [recorded] * seeds, keys)
    return cloning.training(section, [recorded], task, tuple(range(seeds)))


def measure(preset: str, model: str, training: Training) -> dict[str, Any]:
    """A row of the table."""
    watch, members = Watch(), training.keys.size
    with contextlib.suppress(Enough):
        fit(training, TrainingCallbacks(on_progress=watch))
    seconds, sustained = alone(training)
    rate = float(np.median(watch.rates))
    return {
        "preset": preset,
        "model": model,
        "members": members,
        "convolution": FORM.value,
        "updates_per_second": round(rate, 3),
        "member_updates_per_second": round(rate * members, 3),
        "loop_over_alone": round(1 / rate / seconds, 3),
        "matmul_gflop_per_update": round(watch.flops / 1e9, 4),
        "share_of_matmul_peak": round(watch.flops * rate / matmul_peak(), 4),
        "share_of_sustained": round(watch.flops / seconds / sustained, 4),
    }


def endless(preset: str, model: str) -> Config:
    """The config of hopper at that preset, with a training that only the watch ends."""
    config = make_config("hopper", preset)
    config[model].steps = 10**9
    config.trajectory_generator.horizon = HORIZON.value or config.trajectory_generator.horizon
    return finalize(config)[0]


def main(_argv) -> None:
    recorded, task = load_dataset("hopper-sac-replay"), get_task("hopper")
    with convolution_form(FORM.value):
        table = measure_all(recorded, task)
    print(f"{device_name()}, matmul peak {matmul_peak() / 1e9:.0f} GFLOP/s")
    write(table, RESULTS.value, NAME.value)


def measure_all(recorded: Trajectories, task: Task) -> list[dict[str, Any]]:
    """A row for each preset, model and number of seeds."""
    table = []
    for preset in PRESETS_FLAG.value:
        for model in CHOSEN.value:
            for seeds in SEEDS:
                training = training_of(model, seeds, endless(preset, model), recorded, task)
                if training.keys.size <= MOST_MEMBERS.value:
                    table.append(measure(preset, model, training))
                    show(table[-1])
    return table


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
