"""TD3+BC (Fujimoto and Gu 2021): TD3 whose actor is kept close to recorded actions.

The defaults are theirs.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, NOT_NEGATIVE, POSITIVE, field
from tskd_jax.models import actor_critic
from tskd_jax.models.actor_critic import Batch, networks
from tskd_jax.policy import Policy
from tskd_jax.training import optimizers
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.training import Training, adam, schedule_field


@dataclass(frozen=True)
class Config(actor_critic.Config):
    """`config.td3_bc`."""

    actor_learning_rate: float = field(3e-4, POSITIVE, "of the actor, by Adam")
    actor_schedule: str = schedule_field()
    weight: float = field(2.5, POSITIVE, "α of λ = α / mean |Q|, the weight of Q beside imitation")
    noise: float = field(0.2, NOT_NEGATIVE, "deviation of the noise on target actions")
    noise_limit: float = field(0.5, NOT_NEGATIVE, "largest noise on target actions")
    actor_every: int = field(2, COUNT, "updates of the critics for one of actor and targets")


def training(
    config: Config, recorded: Trajectories, task: Task, student_seeds: tuple[int, ...]
) -> Training:
    """See `actor_critic.training`."""
    parts = networks(config, task)

    def loss(params, targets, batch: Batch, key):
        fixed = jax.lax.stop_gradient
        next_actions = parts.noisy_act(
            targets, batch.next_states, key, config.noise, config.noise_limit
        )
        next_q = parts.critics(targets, batch.next_states, next_actions).min(0)
        goal = fixed(batch.rewards + config.discount * batch.goes_on * next_q)
        critic_loss = parts.critic_loss(params, batch, goal)

        actions = parts.act(params, batch.states)
        q = parts.first_critic(fixed(params), batch.states, actions)
        weight = config.weight / fixed(jnp.abs(q).mean())
        actor_loss = jnp.square(actions - batch.actions).mean() - weight * q.mean()
        return critic_loss + actor_loss

    actor = optimizers.delayed(
        config.actor_every,
        adam(config.actor_learning_rate, config.actor_schedule, config.steps // config.actor_every),
    )
    return actor_critic.training(
        *("td3_bc", config, recorded, task, student_seeds),
        init=parts.init,
        loss=loss,
        optimizer=optimizers.of_parts(config, {"actor": actor}),
        targets_every=config.actor_every,
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
