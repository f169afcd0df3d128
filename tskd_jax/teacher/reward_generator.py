"""DDR-II, the reward generator: the reward of a stitch (s, ŝ') (section 4.3, Algorithm 2)."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tskd_jax.data.splits import split_rows
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import window
from tskd_jax.diffusion import diffusion_loss, guided, sample
from tskd_jax.fields import COUNT, field
from tskd_jax.machine import memory
from tskd_jax.machine.batching import in_batches
from tskd_jax.models.held_out import HELD_OUT
from tskd_jax.teacher import diffuser
from tskd_jax.teacher.coordinates import StateCoordinates
from tskd_jax.teacher.diffuser import (
    Diffuser,
    SamplingConfig,
    make_sampler,
    target_condition,
)
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import Training

VALIDATED = 2048  # maximum number of held-out transitions whose reward is sampled


@dataclass(frozen=True)
class Config(diffuser.DiffuserConfig):
    """`config.reward_generator`."""

    horizon: int = field(101, COUNT, "tokens; only the first is sampled for (paper: as DDR-I)")


def token_size(_config: Config, state_size: int) -> int:
    """The size of a token: two states and a reward."""
    return 2 * state_size + 1


def conditions(config: Config, trajectories: Trajectories, count: int) -> np.ndarray:
    """(S, N) y of every transition for `count` seeds, before scaling: R_t."""
    return seeds.for_seeds(diffuser.returns_to_go(config, trajectories), count)


def create(config: Config, trajectories: Trajectories, labels: np.ndarray) -> Diffuser:
    """DDR-II without parameters, with the seeds as leading axis of every leaf.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      labels: (S, N) from `conditions`.
    """
    size = token_size(config, trajectories.observations.shape[1])
    return diffuser.create(config, trajectories, size, labels)


def training(
    config: Config, trajectories: Trajectories, keys: jax.Array
) -> tuple[Training, Diffuser, list[np.ndarray]]:
    """The training of DDR-II on (s_t, s_{t+1}, r_t) tokens.

    Args:
      config: of this part.
      trajectories: the recorded dataset.
      keys: (S,).

    Returns:
      (the training; the model without parameters; the held-out transitions of each seed).
    """
    labels = conditions(config, trajectories, len(keys))
    model = create(config, trajectories, labels)
    split_keys, fit_keys, _ = _split(keys)

    def loss(params, batch, key):
        transitions, buffer, coordinates = batch
        # One state more than tokens: each token holds a state and its successor.
        w = window(buffer, transitions, config.horizon + 1, context=1)
        change = _change(coordinates, w.states[:, :-1], w.states[:, 1:])
        x0 = jnp.concatenate([w.states[:, :-1], change, w.rewards[:, :-1]], -1)
        exists = jnp.broadcast_to(w.reward_exists[:, :-1, None], x0.shape)
        return diffusion_loss(
            model.apply,
            params,
            model.schedule,
            x0,
            w.labels,
            known=_known(x0),
            known_values=x0,
            weight=exists * _weight(x0, config.target_weight),
            drop_condition=config.drop_condition,
            prediction=config.prediction,
            key=key,
        )

    splits = [split_rows(trajectories, HELD_OUT, key) for key in split_keys]
    rows, held_out = zip(*splits, strict=True)
    if len(trajectories.lengths) == 1:
        # The windows of the last training rows would reach what is held out of the same episode.
        rows = [one[: max(1, len(one) - config.horizon + 1)] for one in rows]
    plan = diffuser.training("reward_generator", model, loss, trajectories, labels, rows, fit_keys)
    return plan, model, list(held_out)


def train(
    config: Config,
    sampling: SamplingConfig,
    trajectories: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[Diffuser, list[dict[str, Any]]]:
    """Fit DDR-II and measure the error of its rewards on held-out transitions (Equation 12).

    Args:
      config: of this part.
      sampling: `config.reward_sampling`, for the measurement.
      trajectories: the recorded dataset.
      keys: (S,).
      callbacks: progress and checkpoints.

    Returns:
      (DDR-II with the seeds as leading axis of every leaf; metrics of each seed).
    """
    plan, model, held_out = training(config, trajectories, keys)
    fitted = fit(plan, callbacks)
    model = model.replace(params=fitted.ema)
    *_, validation_keys = _split(keys)

    def measure(trained: Diffuser, rows: np.ndarray, key: jax.Array) -> dict[str, float]:
        rows = np.random.default_rng(0).permutation(rows)[:VALIDATED]
        pairs = trajectories.observations[rows], trajectories.next_observations[rows]
        predicted = rewards_between(trained, sampling, *pairs, key)
        true = trajectories.rewards[rows]
        return {
            "held_out_mse": float(np.square(predicted - true).mean()),
            "held_out_reward_variance": float(true.var()),
        }

    return model, [
        losses | measure(seeds.of_seed(model, index), held_out[index], validation_keys[index])
        for index, losses in enumerate(diffuser.loss_metrics(fitted, len(keys)))
    ]


def _split(keys: jax.Array) -> jax.Array:
    """(S,) keys -> (3, S): for the split, the training and the validation."""
    return jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)


def _change(
    coordinates: StateCoordinates,
    states: Float[Array, "batch horizon state"],
    next_states: Float[Array, "batch horizon state"],
) -> Float[Array, "batch horizon state"]:
    """The next states, or in relative coordinates their scaled differences from the states."""
    if not coordinates.relative:
        return next_states
    return (next_states - states) / coordinates.scale[1][None, None]


def _known(x0: Array) -> Array:
    """The mask of known entries: both states of token 0, whose reward is the target."""
    first = jnp.arange(x0.shape[1])[None, :, None] == 0
    is_state = jnp.arange(x0.shape[2])[None, None] < x0.shape[2] - 1
    return jnp.broadcast_to(first & is_state, x0.shape)


def _weight(x0: Array, weight: float) -> Array:
    return jnp.ones_like(x0).at[:, 0, -1].set(weight)


@functools.partial(jax.jit, static_argnames="sampling")
def rewards_of_batch(
    model: Diffuser,
    sampling: SamplingConfig,
    states: Float[Array, "batch state"],
    next_states: Float[Array, "batch state"],
    keys: Key[Array, " batch"],
) -> Float[Array, " batch"]:
    """Algorithm 2 for a batch of pairs, raw units."""
    config = model.config
    batch, size = states.shape
    s, s_next = model.states.normalize(states), model.states.normalize(next_states)
    values = jnp.zeros((batch, config.horizon, 2 * size + 1))
    change = _change(model.coordinates, s[:, None], s_next[:, None])[:, 0]
    values = values.at[:, 0, : 2 * size].set(jnp.concatenate([s, change], -1))
    coordinates = model.coordinates
    following = 1 if coordinates.relative else 0
    low = jnp.concatenate([coordinates.low[0], coordinates.low[following], model.rewards.low])
    high = jnp.concatenate([coordinates.high[0], coordinates.high[following], model.rewards.high])
    x = sample(
        guided(model.noise, model.params, target_condition(model, s, sampling), sampling.guidance),
        model.schedule,
        make_sampler(sampling),
        known=_known(values),
        known_values=values,
        low=low,
        high=high,
        keys=keys,
    )
    return model.rewards.unnormalize(x[:, 0, -1:])[:, 0]


def rewards_between(
    model: Diffuser,
    sampling: SamplingConfig,
    states: np.ndarray,
    next_states: np.ndarray,
    key: jax.Array,
    batch_size: int = 512,
    on_compiled: Callable[[int], None] = lambda size: None,
) -> np.ndarray:
    """Algorithm 2 for any number of pairs: (N, m), (N, m) -> (N,) rewards, raw units.

    Args:
      model: DDR-II of one seed.
      sampling: `config.reward_sampling`.
      states, next_states: the pairs.
      key: randomness; each pair uses only its own part of it.
      batch_size: pairs at a time; fewer if memory runs out.
      on_compiled: as in `TrainingCallbacks`, for each batch size.
    """
    data = np.asarray(jax.random.key_data(jax.random.split(key, max(1, len(states)))))

    def arguments(s, s_next, key_data):
        return model, sampling, s, s_next, jax.random.wrap_key_data(key_data)

    def needs(*batch):
        needed = memory.of_call(rewards_of_batch, *arguments(*batch))
        on_compiled(needed)
        return needed

    return in_batches(
        lambda *batch: rewards_of_batch(*arguments(*batch)),
        *(states, next_states, data[: len(states)]),
        size=batch_size,
        needs=needs,
    )


def member_rewards(
    model: Diffuser,
    sampling: SamplingConfig,
    states: np.ndarray,
    next_states: np.ndarray,
    key: jax.Array,
    on_compiled: Callable[[int], None] = lambda size: None,
) -> np.ndarray:
    """(members, N) the rewards predicted by each network alone, from the same noise.

    Arguments as for `rewards_between`. Their disagreement measures what DDR-II does not know, which
    the paper's future work calls epistemic uncertainty.
    """
    alone = replace(model.config, members=1)

    def of_member(index: int) -> np.ndarray:
        own = jax.tree.map(lambda leaf: leaf[index : index + 1], model.params)
        one = model.replace(params=own, config=alone)
        return rewards_between(one, sampling, states, next_states, key, on_compiled=on_compiled)

    return np.stack([of_member(index) for index in range(model.config.members)])
