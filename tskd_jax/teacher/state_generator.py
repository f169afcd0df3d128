"""Decision Diffuser's generator (Ajay et al. 2022): DDR-I without the reward channel.

A U-Net diffuses windows of states, conditioned on a return by classifier-free guidance (their
section 3.1), and inverse dynamics infers actions from consecutive states (section 3.2). All of this
is also DDR-I (`trajectory_generator`), whose tokens hold a reward as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from tskd_jax.data import normalizer
from tskd_jax.diffusion import sampler
from tskd_jax.fields import (
    ANY,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE_SHARE,
    field,
    one_of,
    restrict,
)
from tskd_jax.teacher import trajectory_generator
from tskd_jax.teacher.diffuser_config import DiffuserConfig
from tskd_jax.teacher.trajectory_generator import SamplingConfig


@dataclass(frozen=True)
class GeneratorConfig(trajectory_generator.Config):
    """The fields of the generator: DDR-I's, for tokens that hold only a state."""

    reward_channel: ClassVar[bool] = False


@dataclass(frozen=True)
class Config(DiffuserConfig):
    """`config.decision_diffuser`: the generator, and how it plans."""

    horizon: int = field(100, COUNT, "H, states of a plan (Decision Diffuser: 100, kitchen 56)")
    context: int = field(1, COUNT, "C, observed states that a plan begins with")
    accumulate: int = field(2, COUNT, "batches whose gradients make one update (its code: 2)")
    normalizer: str = field(
        "cdf", one_of(normalizer.KINDS), "of states; its code: empirical quantiles"
    )
    termination_penalty: float = field(
        100.0, NOT_NEGATIVE, "taken off R_t at terminals, in the condition only (its code: 100)"
    )
    sampler: str = field("ancestral", one_of(sampler.KINDS), "ancestral as published")
    sampling_steps: int = field(200, COUNT, "network evaluations a plan; at most K")
    start: float = field(1.0, POSITIVE_SHARE, "share of the K steps at which sampling begins")
    guidance: float = field(1.2, NOT_NEGATIVE, "w (its code: 1.2)")
    temperature: float = field(0.5, NOT_NEGATIVE, "α, on the noise's deviation (its code: 0.5)")
    target_return: float = field(0.9, ANY, "y of the plans (its code: 0.9)")

    def generator(self) -> GeneratorConfig:
        """The generator's own fields."""
        return GeneratorConfig(**vars(restrict(self, DiffuserConfig)), context=self.context)

    def sampling(self) -> SamplingConfig:
        """How it plans; its training does not depend on this."""
        return SamplingConfig(
            sampler=self.sampler,
            steps=self.sampling_steps,
            start=self.start,
            guidance=self.guidance,
            temperature=self.temperature,
            target_return=self.target_return,
        )


def contradictions(config: Config) -> Iterator[str]:
    """Describe each contradiction between fields, and what to choose instead."""
    section = "config.decision_diffuser"
    if config.horizon <= config.context:
        yield (
            f"{section}.horizon={config.horizon} leaves nothing to plan behind "
            f"context={config.context}; it must be at least {config.context + 1}"
        )
    yield from config.sampling().contradictions(
        f"{section}.sampling_steps", f"{section}.diffusion_steps", config.diffusion_steps
    )
