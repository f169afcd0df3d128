"""The fields of Diffuser (Janner et al. 2022): those of its two networks, and of planning."""

from collections.abc import Iterator
from dataclasses import dataclass

from tskd_jax.data import normalizer
from tskd_jax.diffusion import prediction
from tskd_jax.fields import (
    COUNT,
    EIGHTS,
    NOT_NEGATIVE,
    ODD,
    POSITIVE,
    WIDTHS,
    at_least,
    between,
    field,
    one_of,
)
from tskd_jax.training.training import (
    Ema,
    TrainingConfig,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)


@dataclass(frozen=True)
class NetworkConfig(TrainingConfig):
    """The fields of each network: the U-Net, and the value model, which is half a U-Net."""

    batch_size: int = batch_size_field(32, "its code")
    learning_rate: float = learning_rate_field(2e-4, "its code")
    schedule: str = schedule_field()
    features: int = field(32, EIGHTS, "channels of the U-Net's first level (its code)")
    multipliers: tuple[int, ...] = field(
        (1, 2, 4, 8), WIDTHS, "channels of each level / features (its code)"
    )
    kernel_size: int = field(5, ODD, "of the residual blocks' convolutions (its code)")
    accumulate: int = field(2, COUNT, "batches whose gradients make one update (its code)")
    ema_decay: float = field(0.995, between(0, 1), "of the averaged weights (its code)")
    ema_every: int = field(10, COUNT, "updates between two averagings (its code)")
    ema_start: int = field(2000, NOT_NEGATIVE, "before it a plain copy; at most half the steps")

    def ema(self) -> Ema:
        """How the averaged weights follow the trained ones."""
        return Ema(self.ema_decay, self.ema_every, min(self.ema_start, self.steps // 2))


@dataclass(frozen=True)
class WindowConfig:
    """The fields that both networks must agree on."""

    horizon: int = field(32, COUNT, "H, steps of a plan (its code; halfcheetah: 4)")
    diffusion_steps: int = field(20, at_least(2), "K, all of which are sampled (its code)")
    normalizer: str = field(
        "gaussian", one_of(normalizer.KINDS), "of states and of actions (its code)"
    )


@dataclass(frozen=True)
class ModelConfig(NetworkConfig, WindowConfig):
    """The diffuser over states and actions."""

    steps: int = steps_field(1_000_000, "its code")
    prediction: str = field(
        "signal",
        one_of(prediction.KINDS),
        "what the network predicts: x₀ (its code), the noise (its paper), the velocity, or the "
        "flow",
    )
    action_weight: float = field(
        10.0, POSITIVE, "weight in the loss of the first action, which is taken (its code)"
    )


@dataclass(frozen=True)
class PlanningConfig:
    """How plans are sampled, and how one is chosen."""

    plans: int = field(64, COUNT, "candidates a step, of which the most valuable is begun")
    guide_scale: float = field(
        0.1,
        NOT_NEGATIVE,
        "of the gradient of J, in rewards (its code; hopper-medium-expert: 0.0001)",
    )
    guide_steps: int = field(2, COUNT, "steps up the gradient for each reverse step (its code)")
    unguided_steps: int = field(
        2, NOT_NEGATIVE, "the last so many reverse steps are not guided (its code)"
    )
    temperature: float = field(1.0, NOT_NEGATIVE, "on the deviation of the noise (its code)")


@dataclass(frozen=True)
class Config(ModelConfig, PlanningConfig):
    """`config.diffuser`."""


def contradictions(config: Config) -> Iterator[str]:
    """Describe each contradiction between fields, and what to choose instead."""
    if config.unguided_steps >= config.diffusion_steps and config.guide_scale:
        yield (
            f"config.diffuser.unguided_steps={config.unguided_steps} leaves none of "
            f"diffusion_steps={config.diffusion_steps} guided; choose fewer, or guide_scale=0"
        )
