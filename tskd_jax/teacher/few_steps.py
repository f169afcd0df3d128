"""DDR-I distilled into a diffuser that needs only a few network calls per plan.

Not in the paper. With a deterministic sampler, a plan is a function of the history, y and the
initial noise. For recorded histories, DDR-I's own sampler computes the whole path from that noise
to the plan once, as a table (`plan_paths`). A network initialised as one of DDR-I's is trained so
that each of its few steps leads from one level of that path to the next level that it visits, where
the teacher took many steps (Salimans & Ho 2022, section 3; for one call, Luhman & Luhman 2021). The
path includes the guidance (Meng et al. 2022) and the mean over the members, so each call
evaluates one network on one batch.

The result is a `Diffuser` like DDR-I, sampled by DDIM with guidance 1: planning, imagination and
the planner in the simulator use it exactly as they use DDR-I.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.splits import split_rows
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.diffusion import as_signal, cosine_schedule
from tskd_jax.fields import COUNT, NOT_NEGATIVE, field
from tskd_jax.models.held_out import HELD_OUT
from tskd_jax.teacher.diffuser import Diffuser, loss_metrics, make_sampler
from tskd_jax.teacher.plan_paths import Histories, Table, draw_histories, make_table, plans
from tskd_jax.teacher.trajectory_generator import Config as GeneratorConfig
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Training,
    TrainingConfig,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)

MOST_HELD_OUT = 2000  # windows for the metrics
# The most by which computing x̂_0 from a predicted noise may amplify its error.
MOST_AMPLIFIED = 100.0


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.few_steps`."""

    calls: int = field(
        0,
        NOT_NEGATIVE,
        "network calls a plan of the network that DDR-I is distilled into, which imagines and "
        "plans in its place; 0: DDR-I itself does",
    )
    windows: int = field(
        20_000, COUNT, "recorded windows whose plans it learns from; none twice if there are enough"
    )
    steps: int = steps_field(1_500, "as measured")
    batch_size: int = batch_size_field(256, "as measured")
    learning_rate: float = learning_rate_field(5e-4, "as measured")
    schedule: str = schedule_field("cosine")

    def sampling(self, teacher: SamplingConfig) -> SamplingConfig:
        """How the distilled network is sampled, given how DDR-I would be (`teacher`)."""
        if not self.calls:
            return teacher
        return replace(teacher, sampler="ddim", steps=self.calls, eta=0.0, guidance=1.0)

    def contradictions(self, generator: GeneratorConfig, sampling: SamplingConfig) -> Iterator[str]:
        """Describe each contradiction with the fields of DDR-I and of its sampling."""
        if not self.calls:
            return
        name = f"config.few_steps.calls={self.calls}"
        if self.calls > sampling.steps:
            yield (
                f"{name} is more than config.sampling.steps={sampling.steps}, of which it is to "
                f"need fewer; choose 1 … {sampling.steps}, or 0 for DDR-I itself"
            )
        if sampling.sampler == "ancestral" or (sampling.sampler == "ddim" and sampling.eta):
            yield (
                f"{name} learns plans that follow from the noise they begin with; "
                f"config.sampling.sampler={sampling.sampler!r} with eta={sampling.eta:g} adds "
                "noise at every step: choose dpm++, or ddim with eta=0"
            )
        if sampling.warm_start:
            yield (
                f"{name} leaves no steps to save: config.sampling.warm_start="
                f"{sampling.warm_start:g} must be 0"
            )
        first = round(sampling.start * (generator.diffusion_steps - 1))
        amplified = cosine_schedule(generator.diffusion_steps).alphas_bar[first] ** -0.5
        if generator.prediction == "noise" and amplified > MOST_AMPLIFIED:
            yield (
                f"{name} would read a plan out of the noise that it predicts at the first level, "
                f"with its error {amplified:.0f} times larger; choose "
                "config.trajectory_generator.prediction=velocity or flow, or "
                "config.sampling.start=0.94"
            )


def training(
    config: Config,
    sampling: SamplingConfig,
    ddr1: Diffuser,
    table: Table,
    rows: Sequence[np.ndarray],
    keys: jax.Array,
) -> tuple[Training, Diffuser]:
    """The training of the distilled network.

    The loss is the squared distance between where a DDIM step leads and where it should lead, over
    the unknown entries: the error of x̂_0 times b. x̂_0 is computed from the network's output as in
    samplers, so an error of a predicted noise counts 1/√ᾱ times as much, as it does there.

    Args:
      config: of this part.
      sampling: how DDR-I is sampled.
      ddr1: DDR-I, with the seeds as leading axis.
      table: likewise, with N rows per seed.
      rows: for each seed, (N,) the recorded transition of each row.
      keys: (S,).

    Returns:
      (the training; the distilled network without parameters).
    """
    model = ddr1.replace(params=None, config=replace(ddr1.config, members=1))
    sampler = make_sampler(config.sampling(sampling))
    levels = jnp.asarray(sampler.step_indices(model.schedule))
    reach = jnp.asarray(sampler.coefficients(model.schedule)[:, 1], jnp.float32)
    signal = as_signal(model.config.prediction, model.schedule, model.apply)

    def loss(params, _ema, batch, key):
        count = len(batch.condition)
        step = jax.random.randint(key, (count,), 0, config.calls)
        x, target = (
            jnp.take_along_axis(part, step[:, None, None, None], 1)[:, 0]
            for part in (batch.x, batch.signal)
        )
        answer = signal(params, x, levels[step], batch.condition, jnp.ones(count))
        error = jnp.square(reach[step][:, None, None] * (answer - target))
        unknown = ~batch.known
        return (unknown * error).sum() / jnp.maximum(unknown.sum(), 1)

    plan = Training(
        name="few_steps",
        init=model.init,
        loss=loss,
        draw=lambda data, key: uniform_rows(data, key, config.batch_size),
        data=table,
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jax.vmap(lambda key: jax.random.split(key, 1))(keys),
        data_axes=0,
        rows=rows,
        initial=jax.tree.map(lambda leaf: leaf[:, :1], ddr1.params),
    )
    return plan, model


def train(
    config: Config,
    sampling: SamplingConfig,
    ddr1: Diffuser,
    trajectories: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[Diffuser, list[dict[str, Any]]]:
    """Distil DDR-I into a diffuser that makes a plan with `config.calls` network calls.

    Args:
      config: of this part.
      sampling: how DDR-I is sampled; the result is sampled by `config.sampling(sampling)`.
      ddr1: DDR-I, with the seeds as leading axis.
      trajectories: the recorded dataset.
      keys: (S,).
      callbacks: of the training; each part of the table is cached.

    Returns:
      (the distilled diffuser, with the seeds as leading axis; metrics of each seed: `loss` of the
      training, the mean over all seeds; `held_out_mse`, in units of tokens, and `held_out_r2` of
      its plans against DDR-I's on held-out episodes).
    """
    callbacks, few = callbacks or TrainingCallbacks(), config.sampling(sampling)
    tables, rows, held_out, fit_keys = [], [], [], []
    for index, key in enumerate(keys):
        one = seeds.of_seed(ddr1, index)
        fit_key, split_key, draw_key, held_key, blur_key = jax.random.split(key, 5)
        kept, held = split_rows(trajectories, HELD_OUT, split_key)
        # Without initial noise, each state has only one plan.
        count = config.windows if sampling.temperature else min(config.windows, len(kept))
        histories = draw_histories(one, trajectories, kept, count, draw_key)
        table, own = make_table(
            *(one, sampling, few, histories, blur_key),
            *(callbacks.part("plans"), f"seed_{index}"),
        )
        tables.append(table)
        rows.append(own)
        most = min(MOST_HELD_OUT, len(held))
        held_out.append(draw_histories(one, trajectories, held, most, held_key))
        fit_keys.append(fit_key)
    # Episodes differ in length, so the seeds keep different numbers of rows after their splits.
    least = min(map(len, rows))
    table = seeds.stack_seeds([jax.tree.map(lambda leaf: leaf[:least], one) for one in tables])
    plan, model = training(
        *(config, sampling, ddr1, table),
        *([own[:least] for own in rows], jnp.stack(fit_keys)),
    )
    fitted = fit(plan, callbacks)
    model, metrics = model.replace(params=fitted.ema), loss_metrics(fitted, len(keys))
    for index, of_seed in enumerate(metrics):
        one, distilled = seeds.of_seed(ddr1, index), seeds.of_seed(model, index)
        of_seed |= difference(one, sampling, distilled, few, held_out[index])
    return model, metrics


def difference(
    ddr1: Diffuser,
    sampling: SamplingConfig,
    distilled: Diffuser,
    few: SamplingConfig,
    histories: Histories,
) -> dict[str, float]:
    """How far apart the plans of two diffusers are, over the unknown entries.

    Args:
      ddr1, sampling: DDR-I of one seed, and how it is sampled.
      distilled, few: likewise for the distilled diffuser.
      histories: recorded ones, which are reported to the models as exact.

    Returns:
      `held_out_mse`, in units of tokens; `held_out_r2`, 1 minus its ratio to the variance of
      DDR-I's plans.
    """
    expected, known = plans(ddr1, sampling.of_observed_states(), histories)
    found, _ = plans(distilled, few.of_observed_states(), histories)
    error = np.square(found - expected).mean(where=~known)
    spread = np.square(expected - expected.mean(0, keepdims=True)).mean(where=~known)
    return {
        "held_out_mse": float(error),
        "held_out_r2": float(1 - error / max(spread, 1e-12)),
    }
