"""The paper's Figure 5: the error of predicted rewards over training, DDR-II, an MLP and a WGAN.

    python -m experiments.paper.figure5 --datasets=hopper:FILE [--updates=20000] [--points=10]

Each has the same 90% of the episodes and the same number of updates on batches of the same size
(DDR-II and the WGAN do not see a twentieth of these 90%, as in a run), and is measured on the
transitions of the other episodes: the mean squared error of Equation 12, beside the variance of the
rewards. DDR-II and the WGAN give one sample for each transition. The WGAN sees the action, too, as
MBTS has it; the others see (s, s') alone. MLP and WGAN have 2 layers of 256 (Appendix E). Rates do
not decay, so that a point is the end of a shorter training. Means and standard errors are over
--seeds. Writes NAME.png, NAME.svg and NAME.csv in --results; models that stand in NAME.csv,
of the same data, seeds and flags, are not trained again.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.drawing import save
from experiments.paper import runs
from experiments.paper.datasets import Dataset, parse_datasets
from experiments.tables import read, show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.cli.recorded import read_recorded
from tskd_jax.config import Config, finalize
from tskd_jax.data.normalizer import fit_normalizer
from tskd_jax.data.splits import hold_out
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation.scores import standard_error
from tskd_jax.machine.signals import Request
from tskd_jax.models import wgan
from tskd_jax.models.inverse_dynamics import pair_features
from tskd_jax.nn.mlp import MLP
from tskd_jax.teacher import reward_generator
from tskd_jax.training import seeds as seed_axis
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Fitted, Training, adam

DATASETS = flags.DEFINE_list("datasets", ["hopper:medium-expert"], "As of table1.")
UPDATES = flags.DEFINE_integer("updates", 20_000, "Of each model.", lower_bound=2)
POINTS = flags.DEFINE_integer("points", 10, "Measurements.", lower_bound=1)
BATCH = flags.DEFINE_integer("batch_size", 256, "Transitions of a batch.", lower_bound=1)
MEASURED = flags.DEFINE_integer("measured", 2000, "Held-out transitions.", lower_bound=1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the scale.")
RESULTS = flags.DEFINE_string("results", "experiments/results/reward_error", "Folder.")

HIDDEN = (256, 256)  # Appendix E
HELD_OUT = 0.1  # of the episodes

# (fitted, place of the seed, transitions, key) -> (N,) rewards
Predict = Callable[[Fitted, int, Trajectories, jax.Array], np.ndarray]


def diffusion(
    config: Config, data: Trajectories, _task: Task, keys: jax.Array
) -> tuple[Training, Predict]:
    """DDR-II, as the preset has it but for its schedule and budget."""
    own = dataclasses.replace(config.reward_generator, batch_size=BATCH.value, schedule="constant")
    plan, model, _ = reward_generator.training(own, data, keys)

    def predict(fitted, place, held, key):
        trained = seed_axis.of_seed(model.replace(params=fitted.ema), place)
        pairs = held.observations, held.next_observations
        return reward_generator.rewards_between(trained, config.reward_sampling, *pairs, key)

    return plan, predict


def adversarial(
    config: Config, data: Trajectories, task: Task, keys: jax.Array
) -> tuple[Training, Predict]:
    """The WGAN of MBTS, at the size of Appendix E."""
    own = dataclasses.replace(
        config.wgan, batch_size=BATCH.value, schedule="constant", hidden=HIDDEN
    )
    plan, _ = wgan.training(own, data, task, keys)
    model = seed_axis.for_seeds(wgan.create(own, data, task), len(keys))

    def predict(fitted, place, held, key):
        params = {"generator": fitted.params["generator"]}
        trained = seed_axis.of_seed(model.replace(params=params), place)
        columns = held.observations, held.actions, held.next_observations
        return wgan.sample_rewards(trained, *columns, key)

    return plan, predict


def regression(
    _config: Config, data: Trajectories, _task: Task, keys: jax.Array
) -> tuple[Training, Predict]:
    """A multilayer perceptron on (s, s') by mean squared error."""
    network, normalizer = MLP(HIDDEN, 1), fit_normalizer("gaussian", data.observations)
    mean, deviation = data.rewards.mean(), data.rewards.std() or 1.0

    def features(transitions: Trajectories) -> np.ndarray:
        pairs = transitions.observations, transitions.next_observations
        return np.asarray(pair_features(normalizer, *pairs))

    inputs = features(data)
    targets = ((data.rewards - mean) / deviation)[:, None].astype(np.float32)

    def loss(params, _ema, batch, _key):
        rows, goals = batch
        return jnp.square(network.apply(params, rows) - goals).mean()

    plan = Training(
        name="mlp",
        init=lambda key: network.init(key, inputs[:1]),
        loss=loss,
        draw=lambda columns, key: uniform_rows(columns, key, BATCH.value),
        data=(inputs, targets),
        optimizer=adam(1e-3, "constant", 0),
        steps=1,
        keys=keys,
    )

    def predict(fitted, place, held, _key):
        params = seed_axis.of_seed(fitted.params, place)
        return mean + deviation * np.asarray(network.apply(params, features(held)))[:, 0]

    return plan, predict


MODELS = {"DDR-II": diffusion, "MLP": regression, "WGAN": adversarial}


def errors_over_training(
    plan: Training, predict: Predict, held: Trajectories, marks: Sequence[int]
) -> Iterator[list[float]]:
    """The held-out error of each seed after each of so many updates."""
    states: list[Any] = []

    def keep(state):
        states[:] = [jax.tree.map(jnp.copy, state)]

    for mark in marks:
        restore = TrainingCallbacks(save=keep, restore=lambda fresh: (states or [fresh])[0])
        fitted = fit(dataclasses.replace(plan, steps=mark), restore)
        yield [
            float(
                np.square(predict(fitted, place, held, jax.random.key(place)) - held.rewards).mean()
            )
            for place in range(len(plan.keys))
        ]


def sample(held: Trajectories, count: int) -> Trajectories:
    """So many of the transitions, each an episode of its own."""
    rows = np.random.default_rng(0).permutation(held.size)[:count]
    return held.take(rows, np.ones(len(rows), int))


def rows_of(dataset: Dataset, known: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The rows of each model, one for each number of updates; those of `known` where it has them.

    Raises:
      ConfigError: too few episodes to hold some out.
    """
    config, _ = finalize(runs.config_of(dataset, runs.Wanted("tskd")))
    marks = np.unique(np.linspace(0, UPDATES.value, POINTS.value + 1).astype(int)[1:]).tolist()
    keys = jnp.stack([jax.random.key(seed) for seed in config.seeds])
    alike = {
        **{"sha256": runs.content_of(config), "seeds": " ".join(map(str, config.seeds))},
        **{"batch_size": BATCH.value, "measured": MEASURED.value},
        **runs.flags_of_row(),
    }
    parts = None
    for name, make in MODELS.items():
        about = {"data": dataset.label, "model": name} | alike
        # What has been read from a file may be a number where `about` has a text.
        rows = [row for row in known if all(str(row.get(k)) == str(about[k]) for k in about)]
        if [row["updates"] for row in rows] != marks:
            parts = parts or data_of(dataset, config)
            rows = list(measured(about, make(config, *parts[:2], keys), parts[2], marks))
        yield rows


def data_of(dataset: Dataset, config: Config) -> tuple[Trajectories, Task, Trajectories]:
    """(what is trained on, the task, what is measured on)."""
    found = read_recorded(config)
    data, held = hold_out(found.trajectories, HELD_OUT)
    if held is None:
        raise ConfigError(f"{dataset.label}: too few episodes to hold out {HELD_OUT:.0%} of them")
    return data, found.task, sample(held, MEASURED.value)


def measured(
    about: dict[str, Any],
    model: tuple[Training, Predict],
    held: Trajectories,
    marks: Sequence[int],
) -> Iterator[dict[str, Any]]:
    """A row for each number of updates of a model."""
    for mark, errors in zip(marks, errors_over_training(*model, held, marks), strict=True):
        row = {
            **about,
            **{"updates": mark, "mse": float(np.mean(errors))},
            **{"stderr": standard_error(np.array(errors))},
            "reward_variance": float(held.rewards.var()),
        }
        show(row)
        yield row


def main(_request: Request) -> int:
    """Train, measure, write after each model, and draw."""
    name = NAME.value or runs.SCALE.value
    before = Path(RESULTS.value) / f"{name}.csv"
    known, rows = read(before) if before.exists() else [], []
    for dataset in parse_datasets(DATASETS.value):
        for of_model in rows_of(dataset, known):
            rows += of_model
            asked = {(row["data"], row["model"]) for row in rows}
            rest = [row for row in known if (row["data"], row["model"]) not in asked]
            write([*rows, *rest], RESULTS.value, name)
    draw(rows, write(rows, RESULTS.value, name))
    return 0


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A picture for each dataset, a line for each model."""
    import matplotlib

    matplotlib.use("Agg", force=True)
    from matplotlib import pyplot as plt

    labels = list(dict.fromkeys(row["data"] for row in rows))
    size = (5 * len(labels), 3.6)
    figure, grid = plt.subplots(1, len(labels), figsize=size, layout="constrained", squeeze=False)
    for axes, label in zip(grid[0], labels, strict=True):
        for model in MODELS:
            own = [row for row in rows if (row["data"], row["model"]) == (label, model)]
            x, y, spread = ([row[name] for row in own] for name in ("updates", "mse", "stderr"))
            axes.errorbar(x, y, spread, fmt="o-", ms=3, capsize=2, label=model)
        variance = rows[[row["data"] for row in rows].index(label)]["reward_variance"]
        axes.axhline(variance, color="#a9b4c2", ls="--", label="variance of the rewards")
        axes.set_yscale("log")
        axes.set_title(label, fontsize="medium")
        axes.set_xlabel("updates")
        axes.set_ylabel("MSE of held-out rewards")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].legend(fontsize="small", frameon=False)
    save(figure, path)


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
