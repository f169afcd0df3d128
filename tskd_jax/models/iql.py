"""Implicit Q-learning (Kostrikov, Nair and Levine 2022).

It never evaluates Q at actions that were not recorded. V is an expectile of Q over recorded
actions (their Equation 5), Q is regressed to r + γ V(s') (Equation 6), and the actor imitates
recorded actions, weighted by the exponential of their advantage (Equation 7).

The defaults are those of the authors' code for locomotion. It divides the rewards of hopper,
halfcheetah and walker2d by a thousandth of the range of returns, and uses β = 0.5 in Kitchen
(`presets.OF_ENVIRONMENT`). There are four differences: states are standardised, the actor's cosine
schedule warms up, its deviation is bounded smoothly, as in d3rlpy, where they clip its logarithm,
and their dropout in Kitchen's actor is not implemented.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import POSITIVE, between, field
from tskd_jax.models import actor_critic
from tskd_jax.models.actor_critic import Batch, networks
from tskd_jax.nn.mlp import MLP
from tskd_jax.policy import Policy
from tskd_jax.training import optimizers
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.training import Training, adam, schedule_field

LARGEST_WEIGHT = 100.0
LOG_DEVIATION = (-5.0, 2.0)


@dataclass(frozen=True)
class Config(actor_critic.Config):
    """`config.iql`."""

    expectile: float = field(0.7, between(0.01, 0.99), "of Q over recorded actions, that V is")
    temperature: float = field(3.0, POSITIVE, "β: weights are exp(β · advantage), at most 100")
    actor_schedule: str = schedule_field("cosine")


def expectile_loss(difference: Float[Array, "*batch"], expectile: float) -> Float[Array, "*batch"]:
    """|τ - 1(u < 0)| u² (Equation 4)."""
    return jnp.where(difference < 0, 1 - expectile, expectile) * jnp.square(difference)


def advantage_weights(
    advantages: Float[Array, "*batch"], temperature: float
) -> Float[Array, "*batch"]:
    """exp(β A), at most 100."""
    return jnp.minimum(jnp.exp(temperature * advantages), LARGEST_WEIGHT)


def training(
    config: Config, recorded: Trajectories, task: Task, student_seeds: tuple[int, ...]
) -> Training:
    """See `actor_critic.training`."""
    parts, value = networks(config, task), MLP(config.hidden, 1)

    def init(key):
        parts_key, value_key = jax.random.split(key)
        return parts.init(parts_key) | {
            "value": value.init(value_key, jnp.zeros((1, task.state_size))),
            "log_deviation": jnp.zeros(task.action_size),
        }

    def values(params, states):
        return jnp.squeeze(value.apply(params["value"], states), -1)

    def loss(params, targets, batch: Batch, _key):
        fixed = jax.lax.stop_gradient
        recorded_q = fixed(parts.critics(targets, batch.states, batch.actions).min(0))
        state_values = values(params, batch.states)
        value_loss = expectile_loss(recorded_q - state_values, config.expectile).mean()
        next_values = fixed(values(params, batch.next_states)) * batch.goes_on
        goal = batch.rewards + config.discount * next_values
        critic_loss = parts.critic_loss(params, batch, goal)
        weights = advantage_weights(recorded_q - fixed(state_values), config.temperature)
        low, high = LOG_DEVIATION
        log_deviation = low + (high - low) * jax.nn.sigmoid(params["log_deviation"])
        off = (batch.actions - parts.act(params, batch.states)) / jnp.exp(log_deviation)[None]
        log_density = -(0.5 * jnp.square(off) + log_deviation[None]).sum(-1)
        actor_loss = -(weights * log_density).mean()
        return value_loss + critic_loss + actor_loss

    actor = adam(config.learning_rate, config.actor_schedule, config.steps)
    return actor_critic.training(
        *("iql", config, recorded, task, student_seeds),
        init=init,
        loss=loss,
        optimizer=optimizers.of_parts(config, {"actor": actor, "log_deviation": actor}),
    )


def train(
    config: Config,
    recorded: Trajectories,
    task: Task,
    student_seeds: tuple[int, ...],
    *,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[list[Policy], list[dict[str, float | None]]]:
    """Train one actor for each of `student_seeds`; see `actor_critic.train`."""
    plan = training(config, recorded, task, student_seeds)
    return actor_critic.train(plan, config, recorded, task, callbacks)
