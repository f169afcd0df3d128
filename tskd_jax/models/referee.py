"""The referee: rolls policies out in the learned world, which gives scores and visited states.

Not in the paper, and without a simulator. The members of the world disagree where the data says
little. So a random member answers each step of a rollout: the error of one does not accumulate.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from tskd_jax.envs.tasks import Task
from tskd_jax.fields import NOT_NEGATIVE, field
from tskd_jax.machine.types import Leaf
from tskd_jax.models.world import World
from tskd_jax.policy import Bounds, Policy


@dataclass(frozen=True)
class Config:
    """`config.referee`."""

    episodes: int = field(
        0, NOT_NEGATIVE, "of each student in the learned world, beside the simulator; 0: none"
    )


@struct.dataclass
class Verdict:
    """The outcome of rollouts in the world, of P policies in E episodes each.

    Attributes:
      returns: (P, E) undiscounted.
      lengths: (P, E) steps.
      disagreement: (P, E) mean over the steps of the distance between the members' next states
        (`World.apart`).
      left: (P, E) whether an episode ended because it had left what the world knows.
      states: (P, E, T, m) raw units, of which the first `lengths` count; None without
        `keep_states`.
    """

    returns: Leaf
    lengths: Leaf
    disagreement: Leaf
    left: Leaf
    states: Leaf | None = None

    def visited(self) -> np.ndarray:
        """(N, m) every state in which a policy acted."""
        if self.states is None:
            raise ValueError("the states were not asked for (keep_states)")
        time = np.arange(self.states.shape[2])
        return self.states[time < self.lengths[..., None]]


def judge(
    world: World,
    policies: Sequence[Policy],
    task: Task,
    starts: np.ndarray,
    key: jax.Array,
    keep_states: bool = False,
) -> Verdict:
    """Roll policies out in one seed's world, all from the same states.

    Args:
      world: of one seed.
      policies: P policies of equal shapes and bounds.
      task: gives the termination rule and the episode limit.
      starts: (E, m) recorded initial states, raw units.
      key: draws the members that answer, the same for all policies.
      keep_states: whether to return the visited states, too.
    """
    stacked = jax.tree.map(
        lambda *leaves: np.stack(leaves), *((one.weights, one.biases) for one in policies)
    )
    bounds = policies[0].bounds
    return jax.device_get(
        roll_out(world, stacked, task, bounds, jnp.asarray(starts), key, keep_states)
    )


def of_each_seed(policies: Sequence[Policy], count: int) -> list[Sequence[Policy]]:
    """Group students by pipeline seed: with a single seed all in one group, else one per seed."""
    return [policies] if count == 1 else [[policy] for policy in policies]


def judge_some(
    world: World,
    policies: Sequence[Policy],
    task: Task,
    starts: np.ndarray,
    episodes: int,
    key: jax.Array,
    keep_states: bool = False,
) -> Verdict:
    """Like `judge`, from `episodes` of the states, drawn at random; the same for all policies."""
    start_key, member_key = jax.random.split(key)
    chosen = np.asarray(jax.random.randint(start_key, (episodes,), 0, len(starts)))
    return judge(world, policies, task, starts[chosen], member_key, keep_states)


def _act(params, states: jax.Array) -> jax.Array:
    """Like `Policy`, but in JAX and before scaling to the bounds."""
    weights, biases = params
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        states = jax.nn.relu(states @ weight + bias[None])
    return jnp.tanh(states @ weights[-1] + biases[-1][None])


@functools.partial(jax.jit, static_argnames=("task", "bounds", "keep_states"))
def roll_out(
    world: World, policies, task: Task, bounds: Bounds, starts, key, keep_states: bool
) -> Verdict:
    """Like `judge`; `policies` are (weights, biases) with the policies as leading axis."""
    count, (episodes, size) = len(policies[1][0]), starts.shape

    def step(carry):
        time, states, alive, verdict = carry
        actions = bounds.stretch(jax.vmap(_act)(policies, states))
        everyone, rewards = world(states.reshape(-1, size), actions.reshape(-1, actions.shape[-1]))
        members = jax.random.randint(
            jax.random.fold_in(key, time), (episodes,), 0, everyone.shape[1]
        )
        chosen = jnp.tile(members, count)[:, None]
        following = jnp.take_along_axis(everyone, chosen[..., None], 1).reshape(states.shape)
        reward = jnp.take_along_axis(rewards, chosen, 1).reshape(alive.shape)
        apart = world.apart(everyone).reshape(alive.shape)
        known = world.knows(apart)
        if keep_states:
            kept = jax.lax.dynamic_update_index_in_dim(verdict.states, states, time, 2)
            verdict = verdict.replace(states=kept)
        goes_on = task.alive(following)
        verdict = verdict.replace(
            left=verdict.left | (alive & goes_on & ~known),
            returns=verdict.returns + jnp.where(alive, reward, 0.0),
            lengths=verdict.lengths + alive,
            disagreement=verdict.disagreement + jnp.where(alive, apart, 0.0),
        )
        return time + 1, following, alive & goes_on & known, verdict

    def continues(carry):
        return (carry[0] < task.episode_limit) & carry[2].any()

    shape = (count, episodes)
    verdict = Verdict(
        returns=jnp.zeros(shape),
        lengths=jnp.zeros(shape, jnp.int32),
        disagreement=jnp.zeros(shape),
        left=jnp.zeros(shape, bool),
        states=jnp.zeros((*shape, task.episode_limit, size)) if keep_states else None,
    )
    carry = (0, jnp.broadcast_to(starts, (count, *starts.shape)), jnp.ones(shape, bool), verdict)
    verdict = jax.lax.while_loop(continues, step, carry)[-1]
    return verdict.replace(disagreement=verdict.disagreement / jnp.maximum(verdict.lengths, 1))
