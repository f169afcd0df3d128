"""What DDR-I and DDR-II share: a conditional diffuser over tokens of states and rewards."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.data.windows import Tape, make_tape
from tskd_jax.diffusion import Sampler, Schedule, TemporalUNet, as_noise, cosine_schedule
from tskd_jax.machine.types import Config, Leaf
from tskd_jax.teacher.coordinates import Frame, fit_frame
from tskd_jax.training.seeds import fit_seeds, pad_rows
from tskd_jax.training.training import Ema, Hooks, adam, uniform_rows


@struct.dataclass
class Diffuser:
    """A trained (or fresh) diffuser.

    Attributes:
      params: of the U-Net; those that sampling uses, i.e. the moving average. Of several members
        (`config.members`) they are the leading axis.
      states, rewards: the normalisers of the tokens' parts.
      frame: coordinates of the normalised states in a window.
      return_scale: () what R_t is divided by to give the condition y.
      reference_states, reference_labels: (R, m) normalised and (R,): a sample of the dataset's
        states and of what they reach, for targets by quantile.
      config: of this model, as in `config.trajectory_generator`.
    """

    params: Leaf
    states: Normalizer
    rewards: Normalizer
    frame: Frame
    return_scale: Leaf
    reference_states: Leaf
    reference_labels: Leaf
    config: Config = struct.field(pytree_node=False)

    @property
    def network(self) -> TemporalUNet:
        return make_network(self.config)

    @property
    def schedule(self) -> Schedule:
        return cosine_schedule(self.config.diffusion_steps)

    def apply(self, params: Any, x: Array, step: Array, y: Array, keep: Array) -> Array:
        """A network's answer to (x, y, k), or to (x, ∅, k) where keep is 0: what is trained."""
        return self.network.apply(params, x, step, y, keep)

    def noise(self, params: Any, x: Array, step: Array, y: Array, keep: Array) -> Array:
        """ε(x, y, k), or ε(x, ∅, k) where keep is 0: what samplers ask for, the members' mean."""
        network = as_noise(self.config.prediction, self.schedule, self.apply)
        if self.config.members == 1:
            return network(params, x, step, y, keep)
        return jax.vmap(network, (0, *(None,) * 4))(params, x, step, y, keep).mean(0)

    def init(self, key: jax.Array, dim: int) -> Any:
        """Fresh parameters of one network, for tokens of that many numbers."""
        return _init(self.config, key, dim)


def make_network(config: Config) -> TemporalUNet:
    """The network of `config.trajectory_generator` or `config.reward_generator`."""
    return TemporalUNet(
        config.features, tuple(config.multipliers), config.kernel_size, config.dtype
    )


def _init(config: Config, key: jax.Array, dim: int) -> Any:
    one, x = jnp.ones(1), jnp.zeros((1, config.horizon, dim))
    return make_network(config).init(key, x, jnp.zeros(1, jnp.int32), one, one)


def training_bytes(config: Config, dim: int) -> int:
    """Memory that a training takes at least, for tokens of that many numbers.

    The parameters, their average, Adam's two moments and a gradient; activations come on top.
    """
    params = jax.eval_shape(lambda key: _init(config, key, dim), jax.random.key(0))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return 5 * config.members * size


def create(
    config: Config,
    trajectories: Trajectories,
    token_size: Callable[[Config, int], int],
    labels: np.ndarray,
    expectation: Any = None,
) -> Diffuser:
    """An untrained diffuser for that dataset.

    Args:
      config: of this model.
      trajectories: the recorded dataset.
      token_size: (config, state size m) -> numbers a token (m + 1 for DDR-I, 2m + 1 for DDR-II).
      labels: (N,) what y is of each transition, before it is divided by its scale.
      expectation: None, or what the next state is told as a difference from.
    """
    scale = config.return_scale or float(labels.max())
    # Terminal states occur only as next states. Samples are clipped to the range of these, so
    # without them no imagined trajectory could ever end.
    last_states = trajectories.next_observations[trajectories.ends]
    states = fit_normalizer(
        config.normalizer, np.concatenate([trajectories.observations, last_states])
    )
    size = min(config.target_references, trajectories.size)
    rows = np.random.default_rng(0).choice(trajectories.size, size, replace=False)
    model = Diffuser(
        params=None,
        states=states,
        frame=fit_frame(trajectories, states, config.horizon + 1, config.relative, expectation),
        rewards=fit_normalizer(_reward_kind(config), trajectories.rewards[:, None]),
        # Dividing by a negative largest return would turn good into bad.
        return_scale=np.float32(abs(scale) or 1.0),
        reference_states=np.asarray(states.normalize(trajectories.observations[rows])),
        reference_labels=(labels[rows] / (abs(scale) or 1.0)).astype(np.float32),
        config=config,
    )
    dim = token_size(config, trajectories.observations.shape[1])

    def init(key):
        return model.init(key, dim)

    init = init if config.members == 1 else jax.vmap(init)
    return model.replace(params=jax.jit(init)(_member_keys(config, jax.random.key(0))))


def _member_keys(config: Config, key: jax.Array) -> jax.Array:
    """(…, members) keys of one each; of a single member the key itself."""
    if config.members == 1:
        return key
    split = partial(jax.random.split, num=config.members)
    return jax.vmap(split)(key) if key.ndim else split(key)


def _reward_kind(config: Config) -> str:
    # The reward channel is mapped to [-1, 1] under every normaliser.
    return "limits" if config.normalizer == "gaussian" else config.normalizer


def returns_to_go(config: Config, trajectories: Trajectories) -> np.ndarray:
    """R_t of every transition; a termination penalty enters here and nowhere else."""
    return penalized(config, trajectories).returns_to_go(config.discount)


def penalized(config: Config, trajectories: Trajectories) -> Trajectories:
    """The trajectories with the termination penalty in their rewards: for conditions only."""
    rewards = trajectories.rewards - config.termination_penalty * trajectories.terminals
    return trajectories.replace(rewards=rewards)


def tape_of(model: Diffuser, trajectories: Trajectories, labels: np.ndarray) -> Tape:
    """The dataset as the diffuser sees it; `labels` as for `create`."""
    return make_tape(trajectories, model.states, model.rewards, labels / model.return_scale)


def train_seeds(
    name: str,
    model: Diffuser,
    loss: Callable[[Any, Any, jax.Array], Array],
    tape: Tape,
    rows: Sequence[np.ndarray],
    keys: jax.Array,
    hooks: Hooks,
) -> list[tuple[Diffuser, dict[str, float | None]]]:
    """Fit a diffuser for each seed, in one program.

    Args:
      name: of the stage.
      model: from `create`.
      loss: (params, (transitions (batch,), tape), key) -> scalar.
      tape: from `tape_of`.
      rows: of each seed, (N',) transitions to train on.
      keys: (seeds,).
      hooks: progress and checkpoints.

    Returns:
      Of each seed (the diffuser with the averaged weights, metrics: the loss is the mean of all
      seeds, and None where nothing was left to train).
    """
    config = model.config
    last_loss = {}

    def watch(done, steps, metrics):
        last_loss.update(metrics)
        hooks.on_progress(done, steps, metrics)

    def draw(data, key):
        rows, count, tape = data
        return uniform_rows(rows, key, config.batch_size, count), tape

    fitted = fit_seeds(
        name,
        lambda key: model.init(key, _token_size(model)),
        lambda params, _ema, batch, key: loss(params, batch, key),
        draw,
        (*pad_rows([of_seed.astype(np.int32) for of_seed in rows]), tape),
        adam(config.learning_rate, config.schedule, config.steps),
        steps=config.steps,
        key=_member_keys(config, keys),
        data_axes=(0, 0, None),
        accumulate=config.accumulate,
        ema=Ema(config.ema_decay, config.ema_every, min(config.ema_start, config.steps // 2)),
        hooks=replace(hooks, on_progress=watch),
        rows=rows,
    )
    return [(model.replace(params=of.ema), {"loss": last_loss.get("loss")}) for of in fitted]


def _token_size(model: Diffuser) -> int:
    return model.params["params"]["out"]["bias"].shape[-1]


def make_sampler(config: Config) -> Sampler:
    """The sampler of `config.sampling` or `config.reward_sampling`."""
    temperature = config.temperature
    if config.temperature_on == "variance":
        temperature = temperature**0.5
    return Sampler(config.sampler, config.steps, config.eta, temperature, config.start)


def target_condition(
    model: Diffuser, states: Float[Array, "batch state"], sampling: Config
) -> Float[Array, " batch"]:
    """The y to ask for in those states (normalised units).

    Either the fixed `target` (0.9 in Decision Diffuser), or the quantile `target_quantile` of what
    the `target_neighbours` nearest of the reference states reach: no data shows a y at an episode's
    start as high as the highest in mid-episode.
    """
    if not sampling.target_quantile:
        return jnp.full(states.shape[0], sampling.target)
    reference = jnp.asarray(model.reference_states)
    count = min(sampling.target_neighbours, len(reference))
    squares = jnp.square(reference).sum(-1)[None] - 2 * states @ reference.T
    _, nearest = jax.lax.top_k(-squares, count)
    return jnp.quantile(
        jnp.asarray(model.reference_labels)[nearest], sampling.target_quantile, axis=-1
    )
