"""ReBRAC (Tarasov et al. 2023): TD3+BC that also penalises unrecorded actions in the targets.

It has deeper networks, layer normalisation in the critics, and large batches. The defaults are the
most frequent of its settings by dataset (its Table 6); `presets.PUBLISHED` has those of D4RL's own.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import ANY, COUNT, NOT_NEGATIVE, POSITIVE, WIDTHS, field
from tskd_jax.models import actor_critic
from tskd_jax.models.actor_critic import Batch, networks
from tskd_jax.policy import Policy
from tskd_jax.training import optimizers
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.training import (
    Training,
    adam,
    batch_size_field,
    learning_rate_field,
    schedule_field,
)


@dataclass(frozen=True)
class Config(actor_critic.Config):
    """`config.rebrac`."""

    batch_size: int = batch_size_field(1024, "as published")
    learning_rate: float = learning_rate_field(1e-3, "as published")
    hidden: tuple[int, ...] = field((256, 256, 256), WIDTHS, "hidden layers of actor and critics")
    normalize: bool = field(False, ANY, "standardise states; folded into the actor on export")
    actor_learning_rate: float = field(1e-3, POSITIVE, "of the actor, by Adam")
    actor_schedule: str = schedule_field()
    actor_weight: float = field(0.01, NOT_NEGATIVE, "β₁, of imitation in the actor's loss")
    critic_weight: float = field(0.01, NOT_NEGATIVE, "β₂, of imitation in the critics' targets")
    noise: float = field(0.2, NOT_NEGATIVE, "deviation of the noise on target actions")
    noise_limit: float = field(0.5, NOT_NEGATIVE, "largest noise on target actions")
    actor_every: int = field(2, COUNT, "updates of the critics for one of actor and targets")


def training(
    config: Config, recorded: Trajectories, task: Task, student_seeds: tuple[int, ...]
) -> Training:
    """See `actor_critic.training`."""
    parts = networks(config, task, layer_norm=True)

    def loss(params, targets, batch: Batch, key):
        fixed = jax.lax.stop_gradient
        next_actions = parts.noisy_act(
            targets, batch.next_states, key, config.noise, config.noise_limit
        )
        next_q = parts.critics(targets, batch.next_states, next_actions).min(0)
        # At the end of an episode no next action is recorded, so there is none to stay close to.
        strayed = batch.has_next * jnp.square(next_actions - batch.next_actions).sum(-1)
        next_values = next_q - config.critic_weight * strayed
        goal = fixed(batch.rewards + config.discount * batch.goes_on * next_values)
        critic_loss = parts.critic_loss(params, batch, goal)

        actions = parts.act(params, batch.states)
        q = parts.critics(fixed(params), batch.states, actions).min(0)
        imitation = jnp.square(actions - batch.actions).sum(-1)
        weight = 1 / fixed(jnp.abs(q).mean())
        actor_loss = (config.actor_weight * imitation - weight * q).mean()
        return critic_loss + actor_loss

    actor = optimizers.delayed(
        config.actor_every,
        adam(config.actor_learning_rate, config.actor_schedule, config.steps // config.actor_every),
    )
    return actor_critic.training(
        *("rebrac", config, recorded, task, student_seeds),
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
