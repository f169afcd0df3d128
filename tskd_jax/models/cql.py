"""Conservative Q-learning (Kumar et al. 2020): soft actor-critic with lower Q off the data.

It adds α · weight · (log Σ_a exp Q(s, a) - Q(s, a_recorded) - τ) to the error of Q, where α is the
Lagrange multiplier (their Equation 4). The sum over actions is estimated by Appendix F's importance
sampling, with the actor's actions in s and in s', and uniform ones.

The defaults and the target of Q, which leaves the entropy out, are those of d3rlpy 2.8.1, except
that states are standardised.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import ANY, COUNT, POSITIVE, field
from tskd_jax.models import actor_critic
from tskd_jax.models.actor_critic import Batch, networks
from tskd_jax.policy import Policy
from tskd_jax.training import optimizers
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.pieces import mean_over_pieces
from tskd_jax.training.training import Training, adam, schedule_field

LOG_DEVIATION = (-20.0, 2.0)
LARGEST_MULTIPLIER = 1e6
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Config(actor_critic.Config):
    """`config.cql`."""

    actor_learning_rate: float = field(1e-4, POSITIVE, "of actor, temperature and multiplier")
    actor_schedule: str = schedule_field()
    actions: int = field(10, COUNT, "drawn of each kind for log Σ exp Q")
    weight: float = field(5.0, POSITIVE, "of the conservative term")
    threshold: float = field(10.0, ANY, "τ, the gap that the multiplier α holds the term at")


def conservative_gap(drawn: jax.Array, log_densities: jax.Array, recorded: jax.Array) -> jax.Array:
    """log Σ_a exp Q(s, a) - Q(s, a_recorded), the first term by importance sampling.

    Args:
      drawn: (2, B, K) Q of the sampled actions, by each of the twins.
      log_densities: (B, K) log densities with which they were sampled.
      recorded: (2, B) Q of recorded actions.

    Returns:
      (2, B).
    """
    return jax.nn.logsumexp(drawn - log_densities[None], -1) - recorded


def training(
    config: Config, recorded: Trajectories, task: Task, student_seeds: tuple[int, ...]
) -> Training:
    """See `actor_critic.training`."""
    parts, size = networks(config, task, stochastic=True), task.action_size

    def init(key):
        zero = jnp.zeros(())
        return parts.init(key) | {"log_temperature": zero, "log_multiplier": zero}

    def drawn(params, states, key, count):
        """(B, count, n) actions sampled from the actor, and their (B, count) log densities."""
        middle, log_deviation = jnp.split(parts.outputs(params, states)[:, None], 2, -1)
        log_deviation = jnp.clip(log_deviation, *LOG_DEVIATION)
        noise = jax.random.normal(key, (len(states), count, size))
        before = middle + jnp.exp(log_deviation) * noise
        normal_density = -0.5 * jnp.square(noise) - log_deviation - HALF_LOG_2PI
        # log(1 - tanh(u)²), without cancellation where tanh(u)² rounds to 1.
        tanh_density = 2 * (math.log(2) - before - jax.nn.softplus(-2 * before))
        return jnp.tanh(before), (normal_density - tanh_density).sum(-1)

    def loss(params, targets, batch: Batch, key):
        fixed = jax.lax.stop_gradient
        held, count = fixed(params), config.actions
        keys = jax.random.split(key, 4)

        # The critics: regressed to r + γ Q'(s', π(s')), and lowered at unrecorded actions.
        next_q = parts.critics(targets, batch.next_states, parts.act(held, batch.next_states))
        goal = fixed(batch.rewards + config.discount * batch.goes_on * next_q.min(0))
        here, there = (
            drawn(held, states, one, count)
            for states, one in zip((batch.states, batch.next_states), keys, strict=False)
        )
        uniform = jax.random.uniform(keys[2], (len(batch.states), count, size), minval=-1, maxval=1)
        anywhere = uniform, jnp.full(uniform.shape[:2], -size * math.log(2))
        actions, densities = (
            jnp.concatenate(kinds, 1) for kinds in zip(here, there, anywhere, strict=True)
        )
        multiplier = jnp.minimum(jnp.exp(params["log_multiplier"]), LARGEST_MULTIPLIER)

        def critic_loss_of_rows(critic, multiplier, rows):
            batch, goal, actions, densities = rows
            repeated = jnp.repeat(batch.states[:, None], actions.shape[1], 1)
            drawn_q = parts.one_critic(critic, repeated, actions)
            recorded_q = parts.one_critic(critic, batch.states, batch.actions)
            gap = conservative_gap(drawn_q[None], densities, recorded_q[None]).mean()
            pressed = config.weight * (gap - config.threshold)
            return jnp.square(recorded_q - goal).mean() + multiplier * pressed, pressed

        # Nearly all of an update's time goes here: many actions for each state, by both critics.
        rows = batch, goal, actions, densities
        critic_losses, pressed = jax.vmap(
            lambda critic: mean_over_pieces(critic_loss_of_rows, critic, multiplier, rows)
        )(params["critic"])
        multiplier_loss = -(multiplier * fixed(pressed)).mean()

        # Soft actor-critic's actor and temperature.
        own, log_density = drawn(params, batch.states, keys[3], 1)
        temperature = jnp.exp(params["log_temperature"])
        worth = parts.critics(held, batch.states[:, None], own).min(0)
        actor_loss = (fixed(temperature) * log_density - worth).mean()
        temperature_loss = -(temperature * fixed(log_density - size)).mean()
        return critic_losses.sum() + multiplier_loss + actor_loss + temperature_loss

    slow = adam(config.actor_learning_rate, config.actor_schedule, config.steps)
    others = dict.fromkeys(("actor", "log_temperature", "log_multiplier"), slow)
    return actor_critic.training(
        *("cql", config, recorded, task, student_seeds),
        init=init,
        loss=loss,
        optimizer=optimizers.of_parts(config, others),
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
