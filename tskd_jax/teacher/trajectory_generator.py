"""DDR-I, the trajectory generator: diffuses (state, reward) tokens (sections 4.1 and 4.2)."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, Key

from tskd_jax.data.trajectories import Trajectories, ranges
from tskd_jax.data.windows import window
from tskd_jax.diffusion import diffusion_loss, guided, sample
from tskd_jax.machine.types import Config, Leaf
from tskd_jax.models import baseline as expectation
from tskd_jax.models.baseline import Expectation
from tskd_jax.teacher import diffuser
from tskd_jax.teacher.diffuser import Diffuser, make_sampler, target_condition
from tskd_jax.training.training import Hooks


def create(
    config: Config, trajectories: Trajectories, expected: Expectation | None = None
) -> Diffuser:
    """An untrained DDR-I; `config` is `config.trajectory_generator`.

    Args:
      config: as said.
      trajectories: the recorded dataset.
      expected: where `needs_expectation(config)`.
    """
    return diffuser.create(
        config,
        trajectories,
        token_size,
        conditions(config, trajectories, expected),
        expected if config.surprise else None,
    )


def needs_expectation(config: Config) -> bool:
    """Whether a DDR-I of that config is made of `teacher.expectation`."""
    return config.surprise or config.condition == "advantage"


def conditions(
    config: Config, trajectories: Trajectories, expected: Expectation | None
) -> np.ndarray:
    """(N,) y of every transition, before its scale: R_t, or the rank of its advantage."""
    if config.condition == "return":
        return diffuser.returns_to_go(config, trajectories)
    assert expected is not None
    penalized = diffuser.penalized(config, trajectories)
    return expectation.ranks(
        expectation.advantages(expected, penalized, config.discount, config.advantage_trace)
    )


def token_size(config: Config, state_size: int) -> int:
    """Numbers of a token: a state, a reward, and the noise level where it is told."""
    return state_size + 1 + config.noise_level_input


def train(
    model: Diffuser,
    trajectories: Trajectories,
    key: jax.Array,
    hooks: Hooks,
    expected: Expectation | None = None,
    kept: np.ndarray | None = None,
) -> tuple[Diffuser, dict[str, float | None]]:
    """Fit DDR-I to all windows of the dataset (Equation 6).

    The present state s_t and up to C - 1 states before it are given. With `history_noise` they are
    blurred by noise whose deviation is drawn per window from U(0, history_noise): what imagination
    is given later is its own output, which is never quite clean. With `noise_level_input` the
    network is told that deviation, so that it need not distrust a clean history.
    """
    return train_seeds(model, trajectories, key[None], hooks, expected, kept)[0]


def train_seeds(
    model: Diffuser,
    trajectories: Trajectories,
    keys: jax.Array,
    hooks: Hooks,
    expected: Expectation | None = None,
    kept: np.ndarray | None = None,
) -> list[tuple[Diffuser, dict[str, float | None]]]:
    """As `train` for each of the keys (seeds,), in one program."""
    config = model.config

    def loss(params, batch, key):
        transitions, tape = batch
        noise_key, level_key, context_key, loss_key = jax.random.split(key, 4)
        context = config.context
        if config.vary_history:
            context = jax.random.randint(context_key, transitions.shape, 1, context + 1)
        w = window(tape, transitions, config.horizon, context)
        level = jax.random.uniform(level_key, (len(transitions), 1, 1))
        blur = config.history_noise * level * jax.random.normal(noise_key, w.states.shape)
        if config.relative:
            # In units of a step: where a step is small, so must be what may be forgiven.
            blur *= jnp.asarray(model.frame.scale)[1][None, None]
        blurred = w.states + blur
        present = jnp.take_along_axis(blurred, w.current[:, None, None], 1)[:, 0]

        def tokens(states):
            return _tokens(model, states, w.rewards, level, present, w.current)

        x0 = tokens(w.states)
        position = jnp.arange(config.horizon)[None, :, None]
        current = w.current[:, None, None]
        is_state, is_reward, is_level = _parts(x0.shape[-1], w.states.shape[-1])
        exists = jnp.where(is_reward, w.reward_exists[:, :, None], w.state_exists[:, :, None])
        # What Algorithm 1 reads off a plan: this step's reward and the next state.
        is_answer = position == jnp.where(is_state, current + 1, current)
        return diffusion_loss(
            model.apply,
            params,
            model.schedule,
            x0,
            w.labels,
            given=is_level | (is_state & (position <= current)),
            given_values=tokens(blurred),
            weight=exists * jnp.where(is_answer, config.answer_weight, 1.0),
            drop_condition=config.drop_condition,
            prediction=config.prediction,
            key=loss_key,
        )

    tape = diffuser.tape_of(model, trajectories, conditions(config, trajectories, expected))
    rows = [_rows(config, trajectories, kept)] * len(keys)
    return diffuser.train_seeds("trajectory_generator", model, loss, tape, rows, keys, hooks)


def _rows(config: Config, trajectories: Trajectories, kept: np.ndarray | None) -> np.ndarray:
    """The transitions to draw windows of; those of `kept` episodes as often as `focus` says."""
    everything = np.arange(trajectories.size)
    if not config.focus or kept is None:
        return everything
    favoured = ranges(trajectories.starts[kept], trajectories.lengths[kept])
    times = config.focus / (1 - config.focus) * len(everything) / len(favoured)
    return np.concatenate([everything, np.tile(favoured, round(times))])


def _tokens(model: Diffuser, states, rewards, level, present, current) -> Array:
    """(B, H, D): coordinates of the states, the rewards, and the noise level where it is told."""
    parts = [model.frame.encode(states, present, current), rewards]
    if model.config.noise_level_input:
        parts.append(jnp.broadcast_to(level, rewards.shape))
    return jnp.concatenate(parts, -1)


def _parts(dim: int, state_size: int) -> tuple[Array, Array, Array]:
    """(1, 1, D) masks of a token: its state, its reward, and the noise level where it is told."""
    index = jnp.arange(dim)[None, None]
    return index < state_size, index == state_size, index > state_size


@struct.dataclass
class Plan:
    """The whole window that DDR-I imagined, normalised.

    Attributes:
      states: (B, H, m); the given ones stand at positions 0 … L - 1.
      rewards: (B, H, 1).
    """

    states: Leaf
    rewards: Leaf

    def answer(self, length: Array, stride: int) -> tuple[Array, Array]:
        """What is taken of it (Algorithm 1, lines 11 and 12).

        Args:
          length: L, of the history that the plan was made with.
          stride: how many steps are taken.

        Returns:
          (rewards (B, stride, 1) of positions L-1 …, next states (B, stride, m) of positions L …).
        """
        rewards = jax.lax.dynamic_slice_in_dim(self.rewards, length - 1, stride, 1)
        return rewards, jax.lax.dynamic_slice_in_dim(self.states, length, stride, 1)

    def later(self, by: Array) -> "Plan":
        """The same, seen from a window that begins `by` steps later; the last token is repeated."""
        horizon = self.states.shape[1]
        position = jnp.minimum(jnp.arange(horizon) + by, horizon - 1)
        return Plan(self.states[:, position], self.rewards[:, position])


def no_plan(model: Diffuser, batch: int) -> Plan:
    """What stands in for the plan before the first."""
    horizon, size = model.config.horizon, model.states.low.shape[0]
    return Plan(jnp.zeros((batch, horizon, size)), jnp.zeros((batch, horizon, 1)))


def plan(
    model: Diffuser,
    sampling: Config,
    history: Float[Array, "batch context state"],
    length: Int[Array, ""],
    keys: Key[Array, " batch"],
    earlier: Plan | None = None,
) -> Plan:
    """One pass of Algorithm 1, lines 6 to 13, for a batch.

    Args:
      model: DDR-I.
      sampling: `config.sampling`.
      history: the last states, normalised, at positions 0 … length - 1; the rest is ignored.
      length: L = min(C, t + 1), the same for all.
      keys: (batch,).
      earlier: the plan before, as seen from this window; sampling begins with it, noised to
        `sampling.warm_start` of the K steps. None: it begins with noise.
    """
    config = model.config
    batch, context, size = history.shape
    current = jnp.full(batch, length - 1)
    present = jax.lax.dynamic_index_in_dim(history, length - 1, 1, keepdims=False)
    padding = ((0, 0), (0, config.horizon - context), (0, 0))
    level = jnp.asarray(sampling.history_noise / max(config.history_noise, 1e-8))[None, None, None]
    values = _tokens(
        model,
        jnp.pad(history, padding),
        jnp.zeros((batch, config.horizon, 1)),
        level,
        present,
        current,
    )
    is_state, _, is_level = _parts(values.shape[-1], size)
    position = jnp.arange(config.horizon)[None, :, None]
    low, high = model.frame.bounds(config.horizon, current)
    # The noise level is given everywhere: its bounds are those of the reward, and never matter.
    others = ((0, 0), (0, 0), (0, values.shape[-1] - size))
    low = jnp.pad(low, others, constant_values=model.rewards.low[0])
    high = jnp.pad(high, others, constant_values=model.rewards.high[0])
    y = target_condition(model, present, sampling)
    sampler, guess = make_sampler(sampling), None
    if earlier is not None:
        sampler = sampler.warm(sampling.warm_start)
        guess = _tokens(model, earlier.states, earlier.rewards, level, present, current)
    x = sample(
        guided(model.noise, model.params, y, sampling.guidance),
        model.schedule,
        sampler,
        given=jnp.broadcast_to(is_level | (is_state & (position < length)), values.shape),
        given_values=values,
        low=low,
        high=high,
        keys=keys,
        earlier=guess,
    )
    return Plan(
        states=model.frame.decode(x[:, :, :size], present, current),
        rewards=x[:, :, size : size + 1],
    )


def replan(
    model: Diffuser,
    sampling: Config,
    history: Float[Array, "batch context state"],
    length: Int[Array, ""],
    keys: Key[Array, " batch"],
    earlier: Plan,
    time: Int[Array, ""],
    taken: int,
) -> Plan:
    """`plan`, from the plan before where `sampling.warm_start` says so.

    Args:
      model, sampling, history, length, keys: as of `plan`.
      earlier: the plan before, as it was made. At time 0 there is none: its content is ignored.
      time: t, the time step of the present.
      taken: time steps since the plan before.
    """
    if not sampling.warm_start:
        return plan(model, sampling, history, length, keys)
    # An episode's first C - 1 windows all begin with its start, later ones move along.
    grown = length - jnp.minimum(model.config.context, time + 1 - taken)
    return jax.lax.cond(
        time == 0,
        lambda: plan(model, sampling, history, length, keys),
        lambda: plan(model, sampling, history, length, keys, earlier.later(taken - grown)),
    )
