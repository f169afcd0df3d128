"""The fields that DDR-I and DDR-II share: those of a diffuser, and those of sampling from it."""

from collections.abc import Iterator
from dataclasses import dataclass

from tskd_jax.data import normalizer
from tskd_jax.diffusion import prediction, sampler
from tskd_jax.fields import (
    ANY,
    COUNT,
    EIGHTS,
    NOT_NEGATIVE,
    ODD,
    POSITIVE,
    POSITIVE_SHARE,
    PROBABILITY,
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
class DiffuserConfig(TrainingConfig):
    """A conditional diffuser and its training."""

    steps: int = steps_field(1_000_000, "Appendix B")
    batch_size: int = batch_size_field(32, "Appendix B")
    learning_rate: float = learning_rate_field(2e-4, "Appendix B")
    schedule: str = schedule_field()
    features: int = field(128, EIGHTS, "F, channels of the U-Net's first level (Appendix B)")
    multipliers: tuple[int, ...] = field(
        (1, 4, 8), WIDTHS, "channels of each level / F (Appendix B)"
    )
    members: int = field(
        1, COUNT, "networks from other starts, whose outputs are averaged (1: the paper)"
    )
    dtype: str = field("float32", one_of(["float32", "bfloat16"]), "of the computation")
    accumulate: int = field(1, COUNT, "batches whose gradients make one update (DD: 2)")
    kernel_size: int = field(5, ODD, "of the residual blocks' convolutions (Decision Diffuser)")
    relative: bool = field(
        False, ANY, "states as differences from the present one (False: the paper)"
    )
    horizon: int = field(101, COUNT, "H, tokens")
    prediction: str = field(
        "noise",
        one_of(prediction.KINDS),
        "what the network predicts: the noise (paper), x₀, the velocity (Salimans & Ho 2022), or "
        "the flow (Lipman et al. 2023)",
    )
    diffusion_steps: int = field(200, at_least(2), "K (Appendix B)")
    drop_condition: float = field(0.25, PROBABILITY, "p of training without y (Appendix B)")
    ema_decay: float = field(0.995, between(0, 1), "of the averaged weights (Decision Diffuser)")
    ema_every: int = field(10, COUNT, "updates between two averagings (Decision Diffuser)")
    ema_start: int = field(2000, NOT_NEGATIVE, "before it a plain copy; at most half the steps")
    normalizer: str = field(
        "limits", one_of(normalizer.KINDS), "of states; of rewards too, gaussian excepted"
    )
    discount: float = field(0.99, PROBABILITY, "γ of the condition R_t")
    return_scale: float = field(0.0, NOT_NEGATIVE, "y = R_t / this; 0: the dataset's largest R_t")
    termination_penalty: float = field(
        0.0, NOT_NEGATIVE, "taken off R_t at terminals, in the condition only (DD: 100)"
    )
    target_weight: float = field(
        1.0, POSITIVE, "weight in the loss of what is read off: next state and reward"
    )
    target_references: int = field(10_000, COUNT, "states kept for targets by quantile")

    def ema(self) -> Ema:
        """How the averaged weights follow the trained ones."""
        return Ema(self.ema_decay, self.ema_every, min(self.ema_start, self.steps // 2))


@dataclass(frozen=True)
class SamplingConfig:
    """How a diffuser is sampled, and under which condition; `config.reward_sampling`."""

    sampler: str = field("ancestral", one_of(sampler.KINDS), "ancestral is the paper's")
    steps: int = field(200, COUNT, "network evaluations a plan; at most K")
    start: float = field(1.0, POSITIVE_SHARE, "share of the K steps at which sampling begins")
    eta: float = field(0.0, PROBABILITY, "of ddim; 1 has the ancestral sampler's noise")
    guidance: float = field(1.2, NOT_NEGATIVE, "w (Appendix B: 1.2 … 1.8 by task)")
    temperature: float = field(0.5, NOT_NEGATIVE, "α of low-temperature sampling (Appendix B)")
    temperature_on: str = field(
        "std",
        one_of(["std", "variance"]),
        "α multiplies this; DD's code: std, paper: variance",
    )
    target_return: float = field(
        0.9, ANY, "y of the samples (Decision Diffuser; the paper does not state it)"
    )
    target_quantile: float = field(
        0.0, PROBABILITY, "> 0: y is this quantile of what the nearest states reach"
    )
    target_neighbours: int = field(50, COUNT, "how many nearest states, for target_quantile")

    def contradictions(self, steps: str, most_steps: str, most: int) -> Iterator[str]:
        """Describe each contradiction between these fields and those of the model.

        Args:
          steps, most_steps: the user's names of `steps` and of the model's `diffusion_steps`.
          most: K.
        """
        levels = round(self.start * (most - 1)) + 1
        if self.steps > most:
            yield f"{steps}={self.steps} is more than {most_steps}={most}"
        if self.steps > levels:
            yield (
                f"{steps}={self.steps} is more than the {levels} noise levels that "
                f"start={self.start} leaves"
            )
        if self.sampler == "ancestral" and self.steps < most // 4:
            yield (
                f"{steps.rpartition('.')[0]}.sampler='ancestral' with {self.steps} of {most} steps "
                "is far off; use ddim or dpm++ for few steps"
            )
