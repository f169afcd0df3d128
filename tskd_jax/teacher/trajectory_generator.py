"""DDR-I, the trajectory generator: diffuses (state, reward) tokens (sections 4.1 and 4.2)."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tskd_jax.data.normalizer import Normalizer
from tskd_jax.data.trajectories import Trajectories, ranges
from tskd_jax.data.windows import window
from tskd_jax.diffusion import diffusion_loss
from tskd_jax.fields import (
    ANY,
    COUNT,
    NOT_NEGATIVE,
    PROBABILITY,
    between,
    field,
    one_of,
)
from tskd_jax.models import baseline as baselines
from tskd_jax.models.baseline import Baseline
from tskd_jax.teacher import diffuser
from tskd_jax.teacher.coordinates import Residual, StateCoordinates, fit_residual
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Training


@dataclass(frozen=True)
class Config(diffuser.DiffuserConfig):
    """`config.trajectory_generator`.

    Attributes:
      reward_channel: whether tokens hold a reward besides the state; those of Decision Diffuser
        (`teacher.state_generator`) do not.
    """

    reward_channel: ClassVar[bool] = True
    horizon: int = field(101, COUNT, "H, tokens; H - C = 100 (Appendix B)")
    context: int = field(1, COUNT, "C, states of history that are known (Appendix B: 1 or 20)")
    vary_history: bool = field(
        False, ANY, "train with histories of random length 1 … C, not only at episode starts"
    )
    history_noise: float = field(
        0.0, NOT_NEGATIVE, "known states are blurred in training, deviation ~ U(0, this)"
    )
    noise_level_input: bool = field(
        False, ANY, "how much the known states are blurred is an input (one more channel)"
    )
    residual: bool = field(
        False, ANY, "the next state as its difference from the baseline's, E[s' | s]"
    )
    condition: str = field(
        "return",
        one_of(["return", "advantage"]),
        "y: R_t (paper), or the rank in -1 … 1 of what R_t is above the expected return",
    )
    advantage_trace: float = field(0.9, PROBABILITY, "λ of the advantage (Schulman et al. 2016)")
    kept_fraction: float = field(
        0.0,
        between(0, 0.95),
        "share of the windows that is drawn from the trajectories that config.filter keeps of "
        "the recorded ones alone; the others are drawn from all",
    )


@dataclass(frozen=True)
class SamplingConfig(diffuser.SamplingConfig):
    """`config.sampling`."""

    replan_every: int = field(1, COUNT, "imagined next states kept of a plan (1: the paper)")
    warm_start: float = field(
        0.0,
        PROBABILITY,
        "> 0: begin with the plan before, noised to this share of the K steps, and take only "
        "the steps below it; 0: begin with noise (the paper)",
    )
    history_noise: float = field(
        0.0, NOT_NEGATIVE, "blur of the history that is reported, with noise_level_input"
    )

    def of_observed_states(self) -> "SamplingConfig":
        """The same for histories from the simulator: reported as exact, unlike imagined ones."""
        return replace(self, history_noise=0.0)


def needs_baseline(config: Config) -> bool:
    """Whether a DDR-I with this config needs a `models.baseline`."""
    return config.residual or config.condition == "advantage"


def token_size(config: Config, state_size: int) -> int:
    """The size of a token: a state and, if it has them, a reward and the noise level."""
    return state_size + config.reward_channel + config.noise_level_input


def conditions(
    config: Config, trajectories: Trajectories, baseline: Baseline | None, count: int
) -> np.ndarray:
    """y of every transition, before scaling: R_t, or the rank of its advantage.

    Args:
      config: of this part.
      trajectories: N transitions.
      baseline: with the seeds as leading axis; needed if `condition` is `advantage`.
      count: S.

    Returns:
      (S, N).
    """
    if config.condition == "return":
        return seeds.for_seeds(diffuser.returns_to_go(config, trajectories), count)
    assert baseline is not None
    penalized = diffuser.penalized(config, trajectories)
    return np.stack(
        [
            baselines.ranks(
                baselines.advantages(
                    seeds.of_seed(baseline, index),
                    penalized,
                    config.discount,
                    config.advantage_trace,
                )
            )
            for index in range(count)
        ]
    )


def create(
    config: Config,
    trajectories: Trajectories,
    baseline: Baseline | None,
    labels: np.ndarray,
) -> Diffuser:
    """DDR-I without parameters, with the seeds as leading axis of every leaf.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      baseline: where `needs_baseline(config)`, with the seeds as leading axis.
      labels: (S, N) from `conditions`.
    """

    def residual(states: Normalizer) -> Residual:
        return seeds.stack_seeds(
            [
                fit_residual(trajectories, states, seeds.of_seed(baseline, index))
                for index in range(len(labels))
            ]
        )

    size = token_size(config, trajectories.observations.shape[1])
    return diffuser.create(
        config, trajectories, size, labels, residual if config.residual else None
    )


def training(
    config: Config,
    trajectories: Trajectories,
    baseline: Baseline | None,
    kept: np.ndarray | None,
    keys: jax.Array,
) -> tuple[Training, Diffuser]:
    """The training of DDR-I on all windows of the dataset (Equation 6).

    The present state s_t and up to C - 1 states before it are known. With `history_noise` they are
    blurred by noise whose deviation is drawn per window from U(0, history_noise), because
    imagination continues from its own output, which is never quite clean. With `noise_level_input`
    that deviation is an input of the network, so that it need not distrust a clean history.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      baseline: where `needs_baseline(config)`, with the seeds as leading axis.
      kept: recorded episodes from which `kept_fraction` of the windows is drawn; None: all
        windows are drawn from all episodes.
      keys: (S,).

    Returns:
      (the training; the model without parameters).
    """
    labels = conditions(config, trajectories, baseline, len(keys))
    model = create(config, trajectories, baseline, labels)

    def loss(params, batch, key):
        transitions, buffer, coordinates = batch
        noise_key, level_key, context_key, loss_key = jax.random.split(key, 4)
        context = config.context
        if config.vary_history:
            context = jax.random.randint(context_key, transitions.shape, 1, context + 1)
        w = window(buffer, transitions, config.horizon, context)
        level = jax.random.uniform(level_key, (len(transitions), 1, 1))
        blur = config.history_noise * level * jax.random.normal(noise_key, w.states.shape)
        if config.relative:
            # In units of one step: where steps are small, so must be the errors to tolerate.
            blur *= jnp.asarray(coordinates.scale)[1][None, None]
        blurred = w.states + blur
        present = jnp.take_along_axis(blurred, w.current[:, None, None], 1)[:, 0]

        def encode(states):
            return tokens(config, coordinates, states, w.rewards, level, present, w.current)

        x0 = encode(w.states)
        position = jnp.arange(config.horizon)[None, :, None]
        current = w.current[:, None, None]
        is_state, is_reward, is_level = token_parts(config, w.states.shape[-1])
        exists = jnp.where(is_reward, w.reward_exists[:, :, None], w.state_exists[:, :, None])
        # What Algorithm 1 reads off a plan: this step's reward and the next state.
        is_target = position == jnp.where(is_state, current + 1, current)
        return diffusion_loss(
            model.apply,
            params,
            model.schedule,
            x0,
            w.labels,
            known=is_level | (is_state & (position <= current)),
            known_values=encode(blurred),
            weight=exists * jnp.where(is_target, config.target_weight, 1.0),
            drop_condition=config.drop_condition,
            prediction=config.prediction,
            key=loss_key,
        )

    rows = [_rows(config, trajectories, kept)] * len(keys)
    plan = diffuser.training("trajectory_generator", model, loss, trajectories, labels, rows, keys)
    return plan, model


def train(
    config: Config,
    trajectories: Trajectories,
    baseline: Baseline | None,
    kept: np.ndarray | None,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[Diffuser, list[dict[str, Any]]]:
    """Fit DDR-I; arguments as for `training`.

    Returns:
      (DDR-I with the seeds as leading axis of every leaf; metrics of each seed: `loss` is the mean
      over all seeds, and missing if nothing was left to train).
    """
    plan, model = training(config, trajectories, baseline, kept, keys)
    fitted = fit(plan, callbacks)
    return model.replace(params=fitted.ema), diffuser.loss_metrics(fitted, len(keys))


def _rows(config: Config, trajectories: Trajectories, kept: np.ndarray | None) -> np.ndarray:
    """The transitions to draw windows from; those of `kept` episodes repeated as configured."""
    everything = np.arange(trajectories.size)
    if not config.kept_fraction or kept is None:
        return everything
    favoured = ranges(trajectories.starts[kept], trajectories.lengths[kept])
    odds = config.kept_fraction / (1 - config.kept_fraction)
    repeats = round(odds * len(everything))
    # Evenly: some rows once more than others, where they do not divide.
    return np.concatenate([everything, favoured[np.arange(repeats) * len(favoured) // repeats]])


def tokens(
    config: Config,
    coordinates: StateCoordinates,
    states: Float[Array, "batch horizon state"],
    rewards: Float[Array, "batch horizon 1"],
    level: Float[Array, "*one 1 1"],
    present: Float[Array, "batch state"],
    current: Int[Array, " batch"],
) -> Float[Array, "batch horizon dim"]:
    """The tokens of a window: state coordinates and, if tokens have them, rewards and noise level.

    Args:
      config, coordinates: of the model.
      states, rewards: of a window, normalised.
      level: (batch, 1, 1) or (1, 1, 1), the deviation of the history's blur / `history_noise`.
      present: (batch, m) the state that others are relative to.
      current: (batch,) its position.
    """
    parts = [coordinates.encode(states, present, current)]
    if config.reward_channel:
        parts.append(rewards)
    if config.noise_level_input:
        parts.append(jnp.broadcast_to(level, rewards.shape))
    return jnp.concatenate(parts, -1)


def token_parts(config: Config, state_size: int) -> tuple[Array, Array, Array]:
    """(1, 1, D) masks of a token's state, reward and noise level; all false if it has none."""
    index = jnp.arange(token_size(config, state_size))[None, None]
    behind_reward = state_size + config.reward_channel
    is_state, is_level = index < state_size, index >= behind_reward
    return is_state, ~is_state & ~is_level, is_level
