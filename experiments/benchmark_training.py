"""Updates per second of every model, of one seed and of five in one program.

    python experiments/benchmark_training.py [--scales=quick,small,paper] [--models=…] [--name=NAME]

Each model is trained on the embedded dataset, as `configs/hopper.py` has it at that scale, until
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
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from tables import device_name, show, write
from untrained import begun, fresh_trajectory_generator

from tskd_jax.config import finalize, make_config
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task, get_task
from tskd_jax.machine.throughput import matmul_peak, product_rates
from tskd_jax.machine.types import Config
from tskd_jax.models import cloning as behavioural_cloning
from tskd_jax.models import dynamics, inverse_dynamics, value
from tskd_jax.nn.convolution import FORMS, set_convolution_form
from tskd_jax.presets import SCALES
from tskd_jax.teacher import reward_generator, trajectory_generator
from tskd_jax.training.training import Ema, Hooks, make_update

# model -> how many are trained side by side, of one seed and of five
MODELS = {
    "trajectory_generator": (1, 5),
    "reward_generator": (1, 5),
    "inverse_dynamics": (1, 5),
    "dynamics": (7, 35),
    "value": (2, 10),
    "student": (1, 5),
}
TURN = 0.2  # seconds of updates, at least, between products
SCALES_FLAG = flags.DEFINE_list("scales", ["quick", "small"], f"Of {tuple(SCALES)}.")
CHOSEN = flags.DEFINE_list("models", list(MODELS), "What is trained.")
MOST_MEMBERS = flags.DEFINE_integer("most_members", 35, "Trained side by side, at most.", 1)
SECONDS = flags.DEFINE_float("seconds", 5.0, "Of warm updates a model.", 0.0)
FORM = flags.DEFINE_enum("convolution", "auto", FORMS, "Form of every convolution.")
HORIZON = flags.DEFINE_integer("horizon", None, "Tokens of DDR-I; None: as the config has it.", 2)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_training", "Folder.")


def alone(train: Callable[[], None]) -> tuple[float, float]:
    """Medians of an update compiled by itself, and of square matrix products in turn with it.

    Returns:
      (seconds of an update, state donated as in `fit`; operations a second of products).
    """

    what = begun(train)
    init, optimizer, data, key = (what[name] for name in ("init", "optimizer", "data", "key"))
    ema = what["ema"] or Ema()
    update = make_update(what["loss"], what["draw"], optimizer, ema, what["accumulate"])
    opt_state = optimizer.init
    for axis in reversed(range(key.ndim)):
        of_data = what.get("data_axes") if axis == 0 else None
        init, opt_state = jax.vmap(init), jax.vmap(opt_state)
        update = jax.vmap(update, in_axes=(0, 0, 0, 0, None, of_data, None))
    params = jax.jit(init)(key)
    state = params, jax.tree.map(jnp.copy, params), opt_state(params)
    data = jax.tree.map(jnp.asarray, data)
    step = jax.jit(
        lambda state, index: update(*state, key, index, data, False)[:3], donate_argnums=0
    )
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


def train(
    model: str, members: int, config: Config, recorded: Trajectories, task: Task, hooks: Hooks
) -> None:
    """Begin that training."""
    count = members // MODELS[model][0]
    keys = jax.random.split(jax.random.key(0), count)
    if model == "trajectory_generator":
        fresh, expected = fresh_trajectory_generator(config, recorded)
        trajectory_generator.train_seeds(fresh, recorded, keys, hooks, expected)
    elif model == "reward_generator":
        fresh = reward_generator.create(config.reward_generator, recorded)
        reward_generator.train_seeds(fresh, recorded, keys, hooks, config.reward_sampling)
    elif model == "inverse_dynamics":
        fresh = inverse_dynamics.create(config.inverse_dynamics, recorded, task)
        inverse_dynamics.train_seeds(fresh, config.inverse_dynamics, recorded, keys, hooks)
    elif model == "dynamics":
        dynamics.train_seeds(config.dynamics, recorded, keys, hooks)
    elif model == "value":
        value.train_seeds(config.value, [recorded] * count, keys, hooks)
    else:
        of_students = tuple(range(count))
        behavioural_cloning.train("student", config.student, recorded, task, of_students, hooks)


def measure(
    scale: str, model: str, members: int, recorded: Trajectories, task: Task
) -> dict[str, Any]:
    """A row of the table."""
    config = make_config(
        scale, environment="hopper", levels={"": "hopper-sac-replay"}, default="", overrides={}
    )
    config[model].steps = 10**9
    config.trajectory_generator.horizon = HORIZON.value or config.trajectory_generator.horizon
    final, watch = finalize(config), Watch()
    with contextlib.suppress(Enough):
        train(model, members, final, recorded, task, Hooks(on_progress=watch))
    seconds, sustained = alone(lambda: train(model, members, final, recorded, task, Hooks()))
    rate = float(np.median(watch.rates))
    return {
        "scale": scale,
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


def main(_argv) -> None:
    set_convolution_form(FORM.value)
    recorded, task = load_dataset("hopper-sac-replay"), get_task("hopper")
    table = []
    for scale in SCALES_FLAG.value:
        for model in CHOSEN.value:
            for members in (m for m in MODELS[model] if m <= MOST_MEMBERS.value):
                table.append(measure(scale, model, members, recorded, task))
                show(table[-1])
    print(f"{device_name()}, matmul peak {matmul_peak() / 1e9:.0f} GFLOP/s")
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
