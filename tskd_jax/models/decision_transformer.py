"""Decision Transformer (Chen et al. 2021): imitation conditioned on the return-to-go.

A causal transformer reads returns-to-go, states and actions in turn, R₁ s₁ a₁ R₂ s₂ a₂ …, and
predicts each action from what precedes it (their Section 3). To act well, it is given a high target
return, less the rewards received so far.

It differs from the published code: a batch draws the last transition of each window, not the first,
so that short windows are those at an episode's start, as when acting; only weight matrices decay;
all weights are initialised as in GPT-2; neither states nor returns are predicted; and GPT-2's own
position embeddings are left out, because the time embeddings make them redundant. So hopper has
0.73 M parameters, while the 0.86 M of Table 3 must count the position embeddings.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Float

from tskd_jax.data.histories import History, Steps, history, make_steps
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import Act
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import ANY, COUNT, POSITIVE, field
from tskd_jax.machine.types import Leaf
from tskd_jax.models.cloning import input_scale
from tskd_jax.models.sequence_model import SequenceConfig
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.nn.transformer import INIT
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
class Config(SequenceConfig):
    """`config.decision_transformer`."""

    steps: int = steps_field(100_000, "as published")
    batch_size: int = batch_size_field(64, "as published")
    learning_rate: float = learning_rate_field(1e-4, "as published")
    schedule: str = schedule_field()
    context: int = field(20, COUNT, "K: time steps that it sees (as published)")
    scale: float = field(1000.0, POSITIVE, "what returns are divided by (as published)")
    target_return: float = field(
        0.0,
        ANY,
        "the return that it is asked for; 0: by target_multiple (published for D4RL's data, and so "
        "at paper: hopper 3600, halfcheetah 6000, walker2d 5000)",
    )
    target_multiple: float = field(
        1.0, POSITIVE, "the return that it is asked for, of the best recorded one"
    )

    def optimizer(self) -> optax.GradientTransformation:
        """AdamW with the settings of these fields."""
        return self.adamw(second_moment=0.999)


class Network(nn.Module):
    """Actions in [-1, 1] for the states of a window.

    Attributes:
      config: of this part.
      action_size: n.
      times: number of time steps that have an embedding; later ones use the last one.
    """

    config: Config
    action_size: int
    times: int

    @nn.compact
    def __call__(self, seen: History, train: bool = False) -> Float[Array, "batch context n"]:
        """Predict the action of each state, from the tokens up to and including that state."""
        steps, width = seen.steps, self.config.width
        batch, context = steps.returns.shape
        time = jnp.minimum(steps.times, self.times - 1)
        time = nn.Embed(self.times, width, embedding_init=INIT, name="time")(time)
        tokens = [
            nn.Dense(width, kernel_init=INIT, name=name)(part) + time
            for name, part in (
                ("return", steps.returns[..., None]),
                ("state", steps.states),
                ("action", steps.actions),
            )
        ]
        tokens = jnp.stack(tokens, 2).reshape(batch, 3 * context, width)
        tokens = nn.LayerNorm(epsilon=1e-5)(tokens)
        visible = jnp.repeat(seen.exists, 3, axis=1)
        transformer = self.config.transformer(nn.relu)
        outputs, _ = transformer(tokens, visible, train=train)
        at_states = outputs.reshape(batch, context, 3, width)[:, :, 1]
        return jnp.tanh(nn.Dense(self.action_size, kernel_init=INIT, name="predict")(at_states))


def training(
    config: Config, recorded: Trajectories, task: Task, student_seeds: tuple[int, ...]
) -> Training:
    """The training of one transformer for each of `student_seeds`.

    The loss is the mean squared error of the actions in [-1, 1], without padding.

    Args:
      config: of this part.
      recorded: the dataset.
      task: gives the action bounds, and the episode limit: the number of time embeddings.
      student_seeds: S.
    """
    network = Network(config, task.action_size, task.episode_limit)
    data = make_steps(recorded, *input_scale(recorded, True), task.bounds, config.scale)

    def init(key):
        first = history(data, jnp.zeros(1, jnp.int32), config.context)
        return network.init(key, first)

    def loss(params, _ema, batch: History, key):
        found = network.apply(params, batch, train=True, rngs={"dropout": key})
        error = jnp.square(found - batch.steps.actions).mean(-1)
        return (error * batch.exists).sum() / batch.exists.sum()

    def draw(data: Steps, key) -> History:
        last = uniform_rows(jnp.arange(len(data.returns)), key, config.batch_size)
        return history(data, last, config.context)

    return Training(
        name="decision_transformer",
        init=init,
        loss=loss,
        draw=draw,
        data=data,
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jnp.stack([jax.random.key(seed) for seed in student_seeds]),
    )


def target_return(config: Config, recorded: Trajectories) -> float:
    """The return that the model is asked for, raw units.

    A multiple above 1 asks for more than the best even if that is negative: the target is
    best + (multiple - 1) |best|.
    """
    if config.target_return:
        return config.target_return
    best = float(recorded.returns().max())
    return best + (config.target_multiple - 1) * abs(best)


def train(
    config: Config,
    recorded: Trajectories,
    task: Task,
    student_seeds: tuple[int, ...],
    *,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[list["DecisionTransformer"], list[dict[str, float | None]]]:
    """Train one actor for each of `student_seeds`.

    Returns:
      (the actors, in the order of the seeds; one dict with the last loss, or None if an earlier
      process had already finished the training, and with the target return).
    """
    fitted = fit(training(config, recorded, task, student_seeds), callbacks)
    mean, deviation = input_scale(recorded, True)
    target = target_return(config, recorded)
    actors = [
        DecisionTransformer(
            params=seeds.of_seed(fitted.params, index),
            mean=mean,
            deviation=deviation,
            target=np.float32(target),
            config=config,
            bounds=task.bounds,
            times=task.episode_limit,
        )
        for index in range(len(student_seeds))
    ]
    return actors, [{"loss": fitted.metrics.get("loss"), "target_return": target}]


@struct.dataclass
class DecisionTransformer:
    """A trained transformer that acts; an `Actor` for the simulator.

    Attributes:
      params: of `Network`.
      mean, deviation: (m,) by which states are standardised.
      target: () the return that the model is asked for, raw units.
      config: of this part.
      bounds: of the actions.
      times: number of time steps that have an embedding.
    """

    params: Any
    mean: Leaf
    deviation: Leaf
    target: Leaf
    config: Config = struct.field(pytree_node=False)
    bounds: Bounds = struct.field(pytree_node=False)
    times: int = struct.field(pytree_node=False)

    @property
    def parameters(self) -> int:
        """The number of parameters of the network."""
        return count_parameters(self.params)

    def start(self) -> Act:
        """A `Player`, which plays episodes in lockstep from time 0."""
        return Player(self)

    def __call__(self, seen: History) -> Float[Array, "batch n"]:
        """The action in [-1, 1] of each history's last state."""
        actions: Any = Network(self.config, len(self.bounds.low), self.times).apply(
            self.params, seen
        )
        return actions[:, -1]


_act = jax.jit(lambda model, seen: model(seen))


class Player:
    """Remembers the last K time steps of all episodes, and what remains of the target return.

    Attributes:
      left: (E,) the remaining target return, raw units.
    """

    def __init__(self, model: DecisionTransformer):
        self._model = jax.tree.map(jnp.asarray, model)
        self._mean, self._deviation = np.asarray(model.mean), np.asarray(model.deviation)
        self.left = np.zeros(0)
        self._steps = Steps(*(np.zeros(0),) * 4)

    def __call__(self, observations: np.ndarray, time: int, rewards: np.ndarray) -> np.ndarray:
        """Actions (E, n) for observations (E, m) at time step `time`, which counts from 0.

        Args:
          observations: of the present time step.
          time: the same for all episodes.
          rewards: (E,) of the last step; at time 0 there is none.
        """
        model = self._model
        episodes, context = len(observations), model.config.context
        if time == 0:
            self.left = np.full(episodes, float(model.target))
            self._steps = Steps(
                returns=np.zeros((episodes, context), np.float32),
                states=np.zeros((episodes, context, observations.shape[1]), np.float32),
                actions=np.zeros((episodes, context, len(model.bounds.low)), np.float32),
                times=np.zeros((episodes, context), np.int32),
            )
        else:
            self.left = self.left - rewards
            self._steps = Steps(*(np.roll(column, -1, axis=1) for column in self._steps))
        steps = self._steps
        steps.returns[:, -1] = self.left / model.config.scale
        steps.states[:, -1] = (observations - self._mean[None]) / self._deviation[None]
        steps.actions[:, -1] = 0  # not taken yet; no output depends on it
        steps.times[:, -1] = time
        exists = np.arange(context)[None] >= context - 1 - time
        seen = History(steps, np.broadcast_to(exists, (episodes, context)))
        actions = np.asarray(_act(model, seen))
        steps.actions[:, -1] = actions
        return model.bounds.stretch(actions)
