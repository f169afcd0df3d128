"""What Decision Transformer and Trajectory Transformer share: fields and optimizer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import optax
from jaxtyping import Array

from tskd_jax.fields import COUNT, NOT_NEGATIVE, POSITIVE, between, field
from tskd_jax.nn.transformer import Transformer
from tskd_jax.training.training import TrainingConfig

LAST_RATE = 0.1  # a cosine schedule ends at this share of the learning rate


@dataclass(frozen=True)
class SequenceConfig(TrainingConfig):
    """The transformer's size and how it is trained."""

    layers: int = field(3, COUNT, "blocks of the transformer (as published)")
    heads: int = field(1, COUNT, "of attention (as published)")
    head_width: int = field(128, COUNT, "of a head; the tokens' width is heads times this")
    dropout: float = field(0.1, between(0, 0.9), "rate, in training (as published)")
    warmup: float = field(0.1, between(0, 1), "share of the updates in which the rate rises from 0")
    weight_decay: float = field(1e-4, NOT_NEGATIVE, "of weight matrices, times the rate")
    gradient_clip: float = field(0.25, POSITIVE, "most norm of the gradient (as published)")

    @property
    def width(self) -> int:
        """The width of an embedded token."""
        return self.heads * self.head_width

    def transformer(self, activation: Callable[[Array], Array]) -> Transformer:
        """The network between embeddings and outputs."""
        return Transformer(self.layers, self.heads, activation, self.dropout)

    def rate(self) -> optax.Schedule:
        """Linear warm-up to the learning rate, then constant or, with cosine, a fall to a tenth."""
        rising = max(1, round(self.warmup * self.steps))
        top = self.learning_rate
        if self.schedule == "cosine":
            return optax.warmup_cosine_decay_schedule(
                0.0, top, rising, max(self.steps, rising + 1), LAST_RATE * top
            )
        return optax.linear_schedule(top / rising, top, rising - 1)

    def adamw(self, second_moment: float) -> optax.GradientTransformation:
        """AdamW on clipped gradients; `second_moment` is β₂, the decay of the second moment."""
        return optax.chain(
            optax.clip_by_global_norm(self.gradient_clip),
            optax.adamw(
                self.rate(), b2=second_moment, weight_decay=self.weight_decay, mask=_decays
            ),
        )


def _decays(params: Any) -> Any:
    """A mask of the parameters that decay: weight matrices, but neither biases nor embeddings."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", "") == "kernel", params
    )
