"""Optimizers of trainings whose parts do not all move alike."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from tskd_jax.training.training import TrainingConfig


def of_parts(
    config: TrainingConfig, own: Mapping[str, optax.GradientTransformation]
) -> optax.GradientTransformation:
    """The config's optimizer for each part of the parameters that has none of its `own`."""

    # A label applies to a whole part.
    def labels(params):
        return {name: name if name in own else "" for name in params}

    return optax.multi_transform({"": config.optimizer()} | dict(own), labels)


def delayed(every: int, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """Apply `inner` only in each `every`-th update; in between, nothing changes, nor its state."""

    def init(params):
        return jnp.zeros((), jnp.int32), inner.init(params)

    def update(grads, state, params=None):
        count, kept = state[0] + 1, state[1]
        moves = count % every == 0
        updates, moved = inner.update(grads, kept, params)

        def choose(new, old):
            return jax.tree.map(lambda a, b: jnp.where(moves, a, b), new, old)

        return (
            choose(updates, jax.tree.map(jnp.zeros_like, updates)),
            (count, choose(moved, kept)),
        )

    return optax.GradientTransformation(init, update)
