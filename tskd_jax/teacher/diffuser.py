"""What DDR-I and DDR-II share: a conditional diffuser over tokens of states and rewards."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import SequenceBuffer, make_sequence_buffer
from tskd_jax.diffusion import Sampler, Schedule, as_noise, cosine_schedule
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.unet import TemporalUNet
from tskd_jax.teacher.coordinates import Residual, StateCoordinates, fit_coordinates
from tskd_jax.teacher.diffuser_config import DiffuserConfig, SamplingConfig
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.training import Fitted, Training

# (params, (transitions (batch,), sequence buffer, coordinates), key) -> scalar
Loss = Callable[[Any, tuple[Array, SequenceBuffer, StateCoordinates], jax.Array], Array]


@struct.dataclass
class Diffuser:
    """A diffuser, trained or not. Shapes are those of one seed; several add a leading axis.

    Attributes:
      params: (members, …) of the U-Nets, as used by sampling: the moving average.
      states, rewards: the normalisers of the tokens' parts.
      coordinates: of the normalised states in a window.
      return_scale: () the number by which R_t is divided to give the condition y.
      reference_states, reference_labels: (R, m) normalised, and (R,): a sample of the dataset's
        states and their y, for targets by quantile.
      token_size: size of a token.
      config: of this model.
    """

    params: Leaf
    states: Normalizer
    rewards: Normalizer
    coordinates: StateCoordinates
    return_scale: Leaf
    reference_states: Leaf
    reference_labels: Leaf
    token_size: int = struct.field(pytree_node=False)
    config: DiffuserConfig = struct.field(pytree_node=False)

    @property
    def network(self) -> TemporalUNet:
        return make_network(self.config)

    @property
    def schedule(self) -> Schedule:
        return cosine_schedule(self.config.diffusion_steps)

    def apply(self, params: Any, x: Array, step: Array, y: Array, keep: Array) -> Array:
        """One network's output for (x, y, k), or for (x, ∅, k) where keep is 0; for training."""
        return self.network.apply(params, x, step, y, keep)

    def noise(self, params: Any, x: Array, step: Array, y: Array, keep: Array) -> Array:
        """ε(x, y, k), or ε(x, ∅, k) where keep is 0: the mean of the members; for samplers."""
        network = as_noise(self.config.prediction, self.schedule, self.apply)
        # Inside a jit, JAX rejects a mapped NumPy array that reaches a custom gradient.
        params = jax.tree.map(jnp.asarray, params)
        axes = (0, *(None,) * 4)
        over_members = seeds.map_axis(network, self.config.members, axes)
        return over_members(params, x, step, y, keep).mean(0)

    def init(self, key: jax.Array) -> Any:
        """Fresh parameters of one network."""
        return _init(self.config, key, self.token_size)


def make_network(config: DiffuserConfig) -> TemporalUNet:
    """The network of a config."""
    return TemporalUNet(config.features, config.multipliers, config.kernel_size, config.dtype)


def _init(config: DiffuserConfig, key: jax.Array, token_size: int) -> Any:
    one, x = jnp.ones(1), jnp.zeros((1, config.horizon, token_size))
    return make_network(config).init(key, x, jnp.zeros(1, jnp.int32), one, one)


def training_bytes(config: DiffuserConfig, token_size: int) -> int:
    """The least memory that a training takes, in bytes per seed.

    The parameters, their average, Adam's two moments and a gradient; activations come on top.
    """
    params = jax.eval_shape(lambda key: _init(config, key, token_size), jax.random.key(0))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return 5 * config.members * size


def create(
    config: DiffuserConfig,
    trajectories: Trajectories,
    token_size: int,
    labels: np.ndarray,
    fit_residual: Callable[[Normalizer], Residual] | None = None,
) -> Diffuser:
    """The diffuser of every seed for a dataset, without parameters.

    Args:
      config: of this model.
      trajectories: the recorded dataset.
      token_size: size of a token.
      labels: (S, N) the condition of each transition, before it is divided by its scale.
      fit_residual: normaliser of states -> the coordinates of the next state as a difference from
        a prediction, with the seeds as leading axis. None: no such coordinates.

    Returns:
      The diffuser, with the seeds as leading axis of every leaf.
    """
    count = len(labels)
    # Terminal states occur only as next states. Samples are clipped to the range of the states
    # collected here: without terminal ones, no imagined trajectory could ever end.
    last_states = trajectories.next_observations[trajectories.ends]
    states = fit_normalizer(
        config.normalizer, np.concatenate([trajectories.observations, last_states])
    )
    coordinates = fit_coordinates(trajectories, states, config.horizon + 1, config.relative)
    rewards = fit_normalizer(_reward_kind(config), trajectories.rewards[:, None])
    # Dividing by a negative largest return would turn good into bad.
    scale = np.abs([config.return_scale or float(one.max()) for one in labels])
    scale = np.where(scale > 0, scale, 1.0)
    size = min(config.target_references, trajectories.size)
    rows = np.random.default_rng(0).choice(trajectories.size, size, replace=False)
    references = np.asarray(states.normalize(trajectories.observations[rows]))
    return Diffuser(
        params=None,
        states=seeds.for_seeds(states, count),
        rewards=seeds.for_seeds(rewards, count),
        coordinates=seeds.for_seeds(coordinates, count).replace(
            residual=None if fit_residual is None else fit_residual(states)
        ),
        return_scale=scale.astype(np.float32),
        reference_states=seeds.for_seeds(references, count),
        reference_labels=(labels[:, rows] / scale[:, None]).astype(np.float32),
        token_size=token_size,
        config=config,
    )


def with_fresh_params(model: Diffuser, keys: jax.Array) -> Diffuser:
    """The untrained diffuser, with initial parameters: for benchmarks and tests of its users.

    Args:
      model: from `create`.
      keys: (S,).
    """
    init = jax.jit(jax.vmap(jax.vmap(model.init)))
    return model.replace(params=init(_member_keys(model.config, keys)))


def _member_keys(config: DiffuserConfig, keys: jax.Array) -> jax.Array:
    """(S,) -> (S, members)."""
    return jax.vmap(partial(jax.random.split, num=config.members))(keys)


def _reward_kind(config: DiffuserConfig) -> str:
    # The reward channel is mapped to [-1, 1] under every normaliser.
    return "limits" if config.normalizer == "gaussian" else config.normalizer


def returns_to_go(config: DiffuserConfig, trajectories: Trajectories) -> np.ndarray:
    """(N,) R_t of every transition, with the termination penalty."""
    return penalized(config, trajectories).returns_to_go(config.discount)


def penalized(config: DiffuserConfig, trajectories: Trajectories) -> Trajectories:
    """The trajectories with the termination penalty in their rewards; for conditions only."""
    rewards = trajectories.rewards - np.float32(config.termination_penalty) * trajectories.terminals
    return trajectories.replace(rewards=rewards)


def training(
    name: str,
    model: Diffuser,
    loss: Loss,
    trajectories: Trajectories,
    labels: np.ndarray,
    rows: Sequence[np.ndarray],
    keys: jax.Array,
) -> Training:
    """The training of a diffuser on windows of the dataset.

    The windows' source (states, rewards, where episodes begin and end) is on the device once for
    all seeds; each seed has its own labels and coordinates.

    Args:
      name: name of the part, for messages.
      model: from `create`.
      loss: of one network.
      trajectories: the recorded dataset.
      labels: (S, N) as for `create`.
      rows: for each seed, (N',) transitions to train on.
      keys: (S,).
    """
    config = model.config
    states, rewards = (seeds.of_seed(part, 0) for part in (model.states, model.rewards))
    buffer = make_sequence_buffer(
        trajectories, states, rewards, labels / model.return_scale[:, None]
    )
    buffer_axes = SequenceBuffer(
        states=None, rewards=None, row=None, first=None, last=None, labels=0
    )

    def draw(data, key):
        rows, count, buffer, coordinates = data
        return uniform_rows(rows, key, config.batch_size, count), buffer, coordinates

    return Training(
        name=name,
        init=model.init,
        loss=lambda params, _ema, batch, key: loss(params, batch, key),
        draw=draw,
        data=(
            *seeds.pad_rows([of_one.astype(np.int32) for of_one in rows]),
            buffer,
            model.coordinates,
        ),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=_member_keys(config, keys),
        data_axes=(0, 0, buffer_axes, 0),
        accumulate=config.accumulate,
        ema=config.ema(),
        rows=rows,
    )


def loss_metrics(fitted: Fitted, count: int) -> list[dict[str, Any]]:
    """`loss` for each of `count` seeds: the mean over all; missing if nothing was trained."""
    known = {"loss": fitted.metrics["loss"]} if fitted.metrics else {}
    return [dict(known) for _ in range(count)]


def make_sampler(config: SamplingConfig) -> Sampler:
    """The sampler of `config.sampling` or `config.reward_sampling`."""
    temperature = config.temperature
    if config.temperature_on == "variance":
        temperature = temperature**0.5
    return Sampler(config.sampler, config.steps, config.eta, temperature, config.start)


def target_condition(
    model: Diffuser, states: Float[Array, "batch state"], sampling: SamplingConfig
) -> Float[Array, " rows"]:
    """The y of samples that begin in these states (normalised units): one for all, or one for each.

    Either the fixed `target_return` (0.9 in Decision Diffuser), or the quantile `target_quantile`
    of y over the `target_neighbours` nearest reference states: in the data, no y at the start of an
    episode is as high as the highest in mid-episode.
    """
    if not sampling.target_quantile:
        return jnp.full(1, sampling.target_return)
    reference = jnp.asarray(model.reference_states)
    count = min(sampling.target_neighbours, len(reference))
    squares = jnp.square(reference).sum(-1)[None] - 2 * states @ reference.T
    _, nearest = jax.lax.top_k(-squares, count)
    return jnp.quantile(
        jnp.asarray(model.reference_labels)[nearest], sampling.target_quantile, axis=-1
    )
