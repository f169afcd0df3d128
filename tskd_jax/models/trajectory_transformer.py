"""Trajectory Transformer (Janner, Li and Levine 2021): plans by beam search over token sequences.

Each number of a state, an action, the reward and the value of what follows is a token. A causal
transformer learns to predict the next token (their Section 3.1). A beam search over its predictions
finds the plan of highest reward and value (Section 3.2), whose first action is taken.

It differs from the published code: a token stands for the mean of the data in its bin, not for the
bin's middle; the end of an episode is learned only where the environment ended it, not where a
recording was cut; the loss is divided by the number of tokens that count; the rate falls to its
tenth over the whole training, and not over the first two fifths.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from tskd_jax.data.sequences import Rows, Sequences, joined, make_rows, sequences
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import Act
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, NOT_NEGATIVE, POSITIVE, PROBABILITY, at_least, field, one_of
from tskd_jax.machine.types import Leaf
from tskd_jax.models import discretizer
from tskd_jax.models.beam_search import Plan, SearchConfig, Worth, search
from tskd_jax.models.discretizer import Discretizer, fit_discretizer
from tskd_jax.models.sequence_model import SequenceConfig
from tskd_jax.models.token_network import TokenNetwork
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.policy import Bounds
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Training,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)


@dataclass(frozen=True)
class Config(SearchConfig, SequenceConfig):
    """`config.trajectory_transformer`."""

    steps: int = steps_field(195_000, "as published: 50 epochs of a million transitions")
    batch_size: int = batch_size_field(256, "as published")
    learning_rate: float = learning_rate_field(6e-4, "as published")
    schedule: str = schedule_field("cosine")
    layers: int = field(4, COUNT, "blocks of the transformer (as published)")
    heads: int = field(4, COUNT, "of attention (as published)")
    head_width: int = field(32, COUNT, "of a head; the tokens' width is heads times this")
    warmup: float = field(0.02, PROBABILITY, "share of the updates in which the rate rises from 0")
    weight_decay: float = field(0.1, NOT_NEGATIVE, "of weight matrices, times the rate")
    gradient_clip: float = field(1.0, POSITIVE, "most norm of the gradient (as published)")
    sequence: int = field(
        10, at_least(2), "transitions of a sequence in training, and the most of `context`"
    )
    bins: int = field(100, at_least(2), "of each dimension (as published)")
    discretizer: str = field(
        "quantile",
        one_of(discretizer.KINDS),
        "as many transitions in each bin (as published), or bins of one width, for sparse rewards",
    )
    discount: float = field(0.99, PROBABILITY, "γ of values and plans")
    terminal_penalty: float = field(
        100.0, NOT_NEGATIVE, "an end is rewarded with minus this (as published); 0: as recorded"
    )
    action_weight: float = field(5.0, POSITIVE, "of actions' tokens in the loss (as published)")

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with the settings of these fields."""
        return self.adamw(second_moment=0.95)

    def joined(self, recorded: Trajectories) -> np.ndarray:
        """(N, D) numbers to encode as a dataset's tokens; see `data.sequences.joined`."""
        return joined(recorded, self.discount, self.terminal_penalty)

    def network(self, size: int) -> TokenNetwork:
        """The network for transitions of `size` tokens."""
        return TokenNetwork(self, size, self.bins, self.sequence)


def training(
    config: Config,
    recorded: Trajectories,
    bins: Discretizer,
    task: Task,
    student_seeds: tuple[int, ...],
) -> Training:
    """The training of one transformer for each of `student_seeds`.

    The loss is the mean cross-entropy of the next token, with a weight for actions.

    Args:
      config: of this part.
      recorded: the dataset.
      bins: the bins of its transitions.
      task: gives the sizes of states and actions.
      student_seeds: S.
    """
    data = make_rows(recorded, bins.encode(config.joined(recorded)))
    size = data.tokens.shape[1]
    network = config.network(size)
    weights = np.ones(size, np.float32)
    weights[task.state_size : -2] = config.action_weight

    def init(key):
        return network.init(key, jnp.zeros((1, config.sequence * size - 1), jnp.int32))

    def loss(params, _ema, seen: Sequences, key):
        tokens = seen.tokens.reshape(len(seen.tokens), -1)
        logits = network.apply(params, tokens[:, :-1], train=True, rngs={"dropout": key})
        errors = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        counts = jnp.repeat(seen.counts, size, axis=1)[:, 1:]
        weighted = errors * counts * np.tile(weights, config.sequence)[None, 1:]
        return weighted.sum() / counts.sum()

    def draw(data: Rows, key) -> Sequences:
        first = uniform_rows(jnp.arange(len(data.row)), key, config.batch_size)
        return sequences(data, first, config.sequence, config.bins)

    return Training(
        name="trajectory_transformer",
        init=init,
        loss=loss,
        draw=draw,
        data=data,
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jnp.stack([jax.random.key(seed) for seed in student_seeds]),
    )


def train(
    config: Config,
    recorded: Trajectories,
    task: Task,
    student_seeds: tuple[int, ...],
    *,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[list["TrajectoryTransformer"], list[dict[str, float | None]]]:
    """Train one actor for each of `student_seeds`.

    Returns:
      (the actors, in the order of the seeds; one dict with the last loss, or None if an earlier
      process had already finished the training).
    """
    bins = fit_discretizer(config.discretizer, config.joined(recorded), config.bins)
    fitted = fit(training(config, recorded, bins, task, student_seeds), callbacks)
    actors = [
        TrajectoryTransformer(
            params=seeds.of_seed(fitted.params, index),
            discretizer=bins,
            key=jax.random.key(seed),
            config=config,
            bounds=task.bounds,
        )
        for index, seed in enumerate(student_seeds)
    ]
    return actors, [{"loss": fitted.metrics.get("loss")}]


@struct.dataclass
class TrajectoryTransformer:
    """A trained transformer that plans; an `Actor` for the simulator.

    Attributes:
      params: of `TokenNetwork`.
      discretizer: of its transitions.
      key: random key of the search.
      config: of this part.
      bounds: of the actions.
    """

    params: Any
    discretizer: Discretizer
    key: Leaf
    config: Config = struct.field(pytree_node=False)
    bounds: Bounds = struct.field(pytree_node=False)

    @property
    def parameters(self) -> int:
        """The number of parameters of the network."""
        return count_parameters(self.params)

    @property
    def state_size(self) -> int:
        """m, the size of a state."""
        return self.discretizer.centres.shape[1] - len(self.bounds.low) - 2

    @property
    def context(self) -> int:
        """C, the number of transitions that the network sees."""
        return min(self.config.context, self.config.sequence)

    def start(self) -> Act:
        """A `Player`, which plays episodes in lockstep from time 0."""
        return Player(self)

    def plan(self, seen: jax.Array, past: jax.Array, keys: jax.Array) -> Plan:
        """The best plan for each of E episodes.

        Args:
          seen: (E, C, D) tokens of the last transitions; see `beam_search.search`.
          past: () number of transitions before the present one.
          keys: (E,).
        """
        size = seen.shape[2]
        network, places = self.config.network(size), self.context * size - 1
        centres = jnp.asarray(self.discretizer.centres)
        worth = Worth(centres[:, -2], centres[:, -1], self.config.discount)
        model = _Predictor(network, self.params, places)

        def one(seen, key):
            return search(model, self.config, worth, self.state_size, seen, past, key)

        return jax.vmap(one)(seen, keys)


class _Predictor(NamedTuple):
    """The network with its parameters: the `TokenModel` of the search."""

    network: TokenNetwork
    params: Any
    places: int

    def begin(self, tokens, last):
        return self.network.apply(self.params, tokens, last, self.places, method="begin")

    def extend(self, token, memory, place):
        return self.network.apply(self.params, token, memory, place, method="extend")


@jax.jit
def _plan(model: TrajectoryTransformer, seen, past, key):
    # One key per episode, so that a plan does not depend on the number of episodes.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(seen)))
    return model.plan(seen, past, keys).actions


class Player:
    """Remembers the last transitions of all episodes, as tokens, and the current plans."""

    def __init__(self, model: TrajectoryTransformer):
        self._model = jax.tree.map(jnp.asarray, model)
        self._bins = jax.tree.map(np.asarray, model.discretizer)
        self._seen = np.zeros((0, 0, 0), np.int32)
        self._plans = np.zeros((0, 0, 0), np.int32)

    def __call__(self, observations: np.ndarray, time: int, rewards: np.ndarray) -> np.ndarray:
        """Actions (E, n) for observations (E, m) at time step `time`, which counts from 0.

        Args:
          observations: of the present time step.
          time: the same for all episodes.
          rewards: (E,) of the last step; at time 0 there is none.
        """
        model, bins = self._model, self._bins
        size, context = model.state_size, model.context
        if time == 0:
            self._seen = np.zeros((len(observations), context, bins.centres.shape[1]), np.int32)
        else:
            last = min(time - 1, context - 1)
            # The value's token stays 0: no other token attends to it.
            self._seen[:, last, -2] = bins.encode(rewards[:, None], self._seen.shape[2] - 2)[:, 0]
        if time >= context:
            self._seen = np.roll(self._seen, -1, axis=1)
        past = min(time, context - 1)
        self._seen[:, past, :size] = bins.encode(observations)
        step = time % min(model.config.replan_every, model.config.horizon)
        if step == 0:
            key = jax.random.fold_in(model.key, time)
            self._plans = np.asarray(_plan(model, self._seen, np.int32(past), key))
        tokens = self._plans[:, step]
        self._seen[:, past, size:-2] = tokens
        low, high = (
            np.array(end, np.float32)[None] for end in (model.bounds.low, model.bounds.high)
        )
        return np.clip(bins.decode(tokens, size), low, high)
