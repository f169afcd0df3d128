"""Diffuser's guide (Janner et al. 2022, section 3.2): J, the value of a noisy plan.

J(τ_k), of a window noised to step k, is regressed onto the discounted return of the window before
it was noised, from its first transition to the episode's end. Sampling climbs the gradient of J.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.diffusion import Guide, cosine_schedule
from tskd_jax.fields import NOT_NEGATIVE, PROBABILITY, field
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.unet import TemporalValue
from tskd_jax.teacher.diffuser import loss_metrics
from tskd_jax.teacher.joint_config import NetworkConfig, PlanningConfig, WindowConfig
from tskd_jax.teacher.joint_diffuser import (
    draw_windows,
    fit_scales,
    is_present_state,
    joint_window,
    window_data,
)
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Training, steps_field


@dataclass(frozen=True)
class Config(NetworkConfig):
    """`config.value_guide`."""

    steps: int = steps_field(200_000, "Diffuser's code")
    discount: float = field(0.997, PROBABILITY, "γ of the return that J predicts (its code)")
    termination_penalty: float = field(
        100.0, NOT_NEGATIVE, "taken off that return at terminals (its code)"
    )


@struct.dataclass
class PlanValue:
    """J, the value of a noisy plan. Shapes are those of one seed; several add a leading axis.

    Attributes:
      params: of the network: the moving average.
      mean, deviation: () of the returns; the network's output is scaled by them.
      token_size: size of a token.
      horizon: H.
      config: of this part.
    """

    params: Leaf
    mean: Leaf
    deviation: Leaf
    token_size: int = struct.field(pytree_node=False)
    horizon: int = struct.field(pytree_node=False)
    config: Config = struct.field(pytree_node=False)

    @property
    def network(self) -> TemporalValue:
        config = self.config
        return TemporalValue(config.features, config.multipliers, config.kernel_size)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters."""
        x = jnp.zeros((1, self.horizon, self.token_size))
        return self.network.init(key, x, jnp.zeros(1, jnp.int32))

    def __call__(
        self, x: Float[Array, "batch horizon token"], step: Int[Array, " steps"]
    ) -> Float[Array, " batch"]:
        """J of plans (normalised, noised to step k), in units of reward."""
        return self.mean + self.deviation * self.network.apply(self.params, x, step)


def training(
    config: Config, windows: WindowConfig, recorded: Trajectories, keys: jax.Array
) -> tuple[Training, PlanValue]:
    """The training on all windows of the dataset, noised like those of the diffuser.

    Args:
      config: of this part.
      windows: those of the diffuser that J is to guide.
      recorded: the dataset.
      keys: (S,).

    Returns:
      (the training; J of one seed, without parameters).
    """
    scales = fit_scales(windows.normalizer, recorded)
    schedule = cosine_schedule(windows.diffusion_steps)
    penalised = recorded.replace(
        rewards=recorded.rewards - config.termination_penalty * recorded.terminals
    )
    returns = penalised.returns_to_go(config.discount)
    mean, deviation = np.float32(returns.mean()), np.float32(max(returns.std(), 1e-6))
    model = PlanValue(None, mean, deviation, scales.token_size, windows.horizon, config)
    known = is_present_state(windows.horizon, scales)

    def loss(params, _ema, batch, key):
        transitions, buffer = batch
        w = joint_window(buffer, transitions, windows.horizon)
        step_key, noise_key = jax.random.split(key)
        step = jax.random.randint(step_key, (len(w.tokens),), 0, schedule.steps)
        signal, noise = schedule.scales(step)
        noisy = signal * w.tokens + noise * jax.random.normal(noise_key, w.tokens.shape)
        answer = model.replace(params=params)(jnp.where(known, w.tokens, noisy), step)
        return jnp.square((answer - w.labels) / deviation).mean()

    plan = Training(
        name="value_guide",
        init=model.init,
        loss=loss,
        draw=draw_windows(config.batch_size),
        data=window_data(recorded, scales, returns),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=keys,
        accumulate=config.accumulate,
        ema=config.ema(),
    )
    return plan, model


def train(
    config: Config,
    windows: WindowConfig,
    recorded: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[PlanValue, list[dict[str, Any]]]:
    """Fit J; arguments as for `training`.

    Returns:
      (J with the seeds as leading axis of every leaf; metrics of each seed: `loss`, the mean over
      all seeds, in units of the returns' variance; missing if nothing was left to train).
    """
    plan, model = training(config, windows, recorded, keys)
    fitted, count = fit(plan, callbacks), len(keys)
    models = seeds.for_seeds(model, count).replace(params=fitted.ema)
    return models, loss_metrics(fitted, count)


def climb(
    value: Any,
    config: PlanningConfig,
    known: Bool[Array, "batch horizon token"],
    known_values: Float[Array, "batch horizon token"],
) -> Guide:
    """The guide of a sampler: repeats μ ← μ + α Σ ∇J(μ) (their Algorithm 1).

    Their code climbs from x_k, before the mean is computed; this follows their paper.

    Args:
      value: (x (B, H, D), step (B,)) -> (B,), differentiable in x.
      config: α (`guide_scale`), the number of repetitions, and where guidance ends.
      known, known_values: the known entries of plans; they are written in before J is evaluated.
    """

    def climbed(mean, step, variance):
        for _ in range(config.guide_steps):
            mean = jnp.where(known, known_values, mean)
            slope = jax.grad(lambda x: value(x, step).sum())(mean)
            mean = mean + config.guide_scale * variance * slope
        return mean

    def guide(mean, step, variance):
        # The mean belongs to step k - 1: reverse step k = 0 leads to -1, where there is no noise.
        return jax.lax.cond(
            step[0] + 1 >= max(config.unguided_steps, 1),
            lambda: climbed(mean, step, variance),
            lambda: mean,
        )

    return guide
