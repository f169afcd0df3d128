"""DDR-I as a policy: exactly Algorithm 1, where every action is executed (section 4.2).

It is the teacher that the student is compared with. Without a reward channel it is Decision
Diffuser (Ajay et al. 2022, their Algorithm 1).
"""

import functools

import jax
import numpy as np
from flax import struct

from tskd_jax.machine import devices
from tskd_jax.machine.types import Leaf
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.planning import Plan, no_plan, replan
from tskd_jax.teacher.trajectory_generator import SamplingConfig
from tskd_jax.training import seeds


@functools.partial(jax.jit, static_argnames="sampling")
def plan_step(
    model: Diffuser, sampling: SamplingConfig, history, length, keys, earlier: Plan, time
):
    """Plan once for a batch: (rewards (B,), next states (B, m) normalised, the plan)."""
    latest = replan(model, sampling, history, length, keys, earlier, time, 1)
    rewards, states = latest.next_steps(length, 1)
    return model.rewards.unnormalize(rewards[:, 0])[:, 0], states[:, 0], latest


@jax.jit
def _act(model: Diffuser, inverse_dynamics: InverseDynamics, observations, next_states):
    return inverse_dynamics(observations, model.states.unnormalize(next_states))


class Planner:
    """Plans an action at every step from the last C observations; for `evaluation.rollout`.

    The models are those of one seed.

    Attributes:
      rewards: the planned rewards, a list with one (E,) array for each time step; meaningless if
        the model has no reward channel.
    """

    def __init__(
        self,
        model: Diffuser,
        sampling: SamplingConfig,
        inverse_dynamics: InverseDynamics,
        key: jax.Array,
    ):
        self._model, self._sampling, self._key = model, sampling, key
        # Placed on the devices once, not at every step: the paper's networks are 240 MB.
        self._placed = devices.copied((model, inverse_dynamics))
        self._history = np.zeros((0, 0, 0), np.float32)
        self.rewards: list[np.ndarray] = []

    def __call__(self, observations: np.ndarray, time: int, _rewards: np.ndarray) -> np.ndarray:
        """Actions (E, n) for observations (E, m) at time step `time`, which counts from 0."""
        context, episodes = self._model.config.context, len(observations)
        rows = np.resize(np.arange(episodes), devices.padded(episodes))
        present = np.asarray(observations, np.float32)[rows]
        now = np.asarray(self._model.states.normalize(present))
        if time == 0:
            self.rewards = []
            self._latest = no_plan(self._model, len(now))
            self._history = np.zeros((len(now), context, now.shape[1]), np.float32)
        if time >= context:
            self._history = np.roll(self._history, -1, axis=1)
        length = min(context, time + 1)
        self._history[:, length - 1] = now
        keys = jax.random.split(jax.random.fold_in(self._key, time), episodes)[rows]
        history, keys, latest, spread = devices.spread((self._history, keys, self._latest, present))
        model, inverse_dynamics = self._placed
        rewards, following, self._latest = plan_step(
            model, self._sampling, history, np.int32(length), keys, latest, np.int32(time)
        )
        self.rewards.append(devices.fetch(rewards)[:episodes])
        actions = _act(model, inverse_dynamics, spread, following)
        return devices.fetch(actions)[:episodes]


@struct.dataclass
class PlanningActor:
    """The result of a method that plans and does not distil; an `envs.simulator.Actor`.

    Attributes:
      model: the generator of one seed, with or without a reward channel.
      inverse_dynamics: f(s, s'), of one seed.
      key: () for sampling its plans.
      sampling: how plans are sampled.
    """

    model: Diffuser
    inverse_dynamics: InverseDynamics
    key: Leaf
    sampling: SamplingConfig = struct.field(pytree_node=False)

    @property
    def parameters(self) -> int:
        """The number of parameters of the networks, the generator and f."""
        return count_parameters((self.model.params, self.inverse_dynamics.params))

    def start(self) -> Planner:
        """A planner for episodes in lockstep, from time 0."""
        return Planner(self.model, self.sampling, self.inverse_dynamics, self.key)


def planner_of_seed(
    model: Diffuser,
    sampling: SamplingConfig,
    inverse_dynamics: InverseDynamics,
    index: int,
    key: jax.Array,
) -> Planner:
    """The planner of one of several seeds, for states that are observed, not imagined.

    Args:
      model, inverse_dynamics: with the seeds as leading axis.
      sampling: how DDR-I is sampled.
      index: which seed.
      key: for sampling its plans.
    """
    return Planner(
        seeds.of_seed(model, index),
        sampling.of_observed_states(),
        seeds.of_seed(inverse_dynamics, index),
        key,
    )
