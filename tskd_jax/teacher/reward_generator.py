"""DDR-II, the reward generator: the reward of a stitch (s, ŝ') (section 4.3, Algorithm 2)."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import window
from tskd_jax.diffusion import diffusion_loss, guided, sample
from tskd_jax.machine import memory
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Config
from tskd_jax.models.inverse_dynamics import split_rows
from tskd_jax.teacher import diffuser
from tskd_jax.teacher.diffuser import Diffuser, make_sampler, target_condition
from tskd_jax.training.training import Hooks


def create(config: Config, trajectories: Trajectories) -> Diffuser:
    """An untrained DDR-II; `config` is `config.reward_generator`."""
    labels = diffuser.returns_to_go(config, trajectories)
    return diffuser.create(config, trajectories, token_size, labels)


def token_size(_config: Config, state_size: int) -> int:
    """Numbers of a token: two states and a reward."""
    return 2 * state_size + 1


def train(
    model: Diffuser,
    trajectories: Trajectories,
    key: jax.Array,
    hooks: Hooks,
    sampling: Config,
    judged: int = 2048,
) -> tuple[Diffuser, dict[str, float | None]]:
    """Fit DDR-II to (s_t, s_{t+1}, r_t) tokens and judge it on held-out transitions (Equation 12).

    Args:
      model: from `create`.
      trajectories: the recorded dataset.
      key: randomness.
      hooks: progress and checkpoints.
      sampling: `config.reward_sampling`, for the judgement.
      judged: how many held-out transitions are judged.
    """
    return train_seeds(model, trajectories, key[None], hooks, sampling, judged)[0]


def train_seeds(
    model: Diffuser,
    trajectories: Trajectories,
    keys: jax.Array,
    hooks: Hooks,
    sampling: Config,
    judged: int = 2048,
) -> list[tuple[Diffuser, dict[str, float | None]]]:
    """As `train` for each of the keys (seeds,), in one program."""
    config = model.config
    split_keys, fit_keys, judge_keys = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(
        keys
    )

    def loss(params, batch, key):
        transitions, tape = batch
        # One state more than tokens: each token holds a state and its successor.
        w = window(tape, transitions, config.horizon + 1, context=1)
        change = _change(model, w.states[:, :-1], w.states[:, 1:])
        x0 = jnp.concatenate([w.states[:, :-1], change, w.rewards[:, :-1]], -1)
        exists = jnp.broadcast_to(w.reward_exists[:, :-1, None], x0.shape)
        return diffusion_loss(
            model.apply,
            params,
            model.schedule,
            x0,
            w.labels,
            given=_given(x0),
            given_values=x0,
            weight=exists * _answer_weight(x0, config.answer_weight),
            drop_condition=config.drop_condition,
            prediction=config.prediction,
            key=key,
        )

    splits = [split_rows(trajectories, 0.05, key) for key in split_keys]
    tape = diffuser.tape_of(model, trajectories, diffuser.returns_to_go(config, trajectories))
    rows = [rows for rows, _ in splits]
    trained = diffuser.train_seeds("reward_generator", model, loss, tape, rows, fit_keys, hooks)

    def judge(model, metrics, held_out, key):
        held_out = np.random.default_rng(0).permutation(held_out)[:judged]
        states, next_states = (
            column[held_out]
            for column in (trajectories.observations, trajectories.next_observations)
        )
        predicted = rewards_between(model, sampling, states, next_states, key)
        true = trajectories.rewards[held_out]
        return model, metrics | {
            "held_out_mse": float(np.square(predicted - true).mean()),
            "held_out_reward_variance": float(true.var()),
        }

    return [
        judge(*of, held_out, key)
        for of, (_, held_out), key in zip(trained, splits, judge_keys, strict=True)
    ]


def _change(
    model: Diffuser,
    states: Float[Array, "batch horizon state"],
    next_states: Float[Array, "batch horizon state"],
) -> Float[Array, "batch horizon state"]:
    """The next states, or with a relative frame their scaled difference from the states."""
    if not model.frame.relative:
        return next_states
    return (next_states - states) / model.frame.scale[1][None, None]


def _given(x0: Array) -> Array:
    """Both states of token 0 are given, its reward is the question."""
    first = jnp.arange(x0.shape[1])[None, :, None] == 0
    is_state = jnp.arange(x0.shape[2])[None, None] < x0.shape[2] - 1
    return jnp.broadcast_to(first & is_state, x0.shape)


def _answer_weight(x0: Array, weight: float) -> Array:
    return jnp.ones_like(x0).at[:, 0, -1].set(weight)


@functools.partial(jax.jit, static_argnames="sampling")
def _rewards(
    model: Diffuser,
    sampling: Config,
    states: Float[Array, "batch state"],
    next_states: Float[Array, "batch state"],
    keys: Key[Array, " batch"],
) -> Float[Array, " batch"]:
    config = model.config
    batch, size = states.shape
    s, s_next = model.states.normalize(states), model.states.normalize(next_states)
    values = jnp.zeros((batch, config.horizon, 2 * size + 1))
    change = _change(model, s[:, None], s_next[:, None])[:, 0]
    values = values.at[:, 0, : 2 * size].set(jnp.concatenate([s, change], -1))
    following = 1 if model.frame.relative else 0
    low = jnp.concatenate([model.frame.low[0], model.frame.low[following], model.rewards.low])
    high = jnp.concatenate([model.frame.high[0], model.frame.high[following], model.rewards.high])
    x = sample(
        guided(model.noise, model.params, target_condition(model, s, sampling), sampling.guidance),
        model.schedule,
        make_sampler(sampling),
        given=_given(values),
        given_values=values,
        low=low,
        high=high,
        keys=keys,
    )
    return model.rewards.unnormalize(x[:, 0, -1:])[:, 0]


def rewards_between(
    model: Diffuser,
    sampling: Config,
    states: np.ndarray,
    next_states: np.ndarray,
    key: jax.Array,
    batch_size: int = 512,
    on_compiled: Callable[[int], None] = lambda size: None,
) -> np.ndarray:
    """Algorithm 2 for any number of pairs: (N, m), (N, m) -> (N,) rewards, raw units.

    Args:
      model: DDR-II.
      sampling: `config.reward_sampling`.
      states, next_states: the pairs.
      key: randomness; a pair depends on its own part of it.
      batch_size: pairs at a time; fewer where memory runs out.
      on_compiled: as in `Hooks`, for each size of a batch.
    """
    data = np.asarray(jax.random.key_data(jax.random.split(key, max(1, len(states)))))

    def arguments(s, s_next, key_data):
        return model, sampling, s, s_next, jax.random.wrap_key_data(key_data)

    def needs(*batch):
        needed = memory.of_call(_rewards, *arguments(*batch))
        on_compiled(needed)
        return needed

    return in_batches(
        lambda *batch: _rewards(*arguments(*batch)),
        *(states, next_states, data[: len(states)]),
        size=batch_size,
        needs=needs,
    )
