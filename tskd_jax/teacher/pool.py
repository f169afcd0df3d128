"""Several teachers: their trajectories are pooled, as the paper's future work, or one is kept."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import ANY, COUNT, Allowed, field, one_of
from tskd_jax.models.baseline import halves
from tskd_jax.teacher.trajectory_generator import SamplingConfig


@dataclass(frozen=True)
class Config:
    """`config.teachers`."""

    count: int = field(
        1,
        COUNT,
        "DDR-I's, each of a seed of its own (1: the paper)",
    )
    keep: str = field(
        "all",
        one_of(["all", "best"]),
        "all: each imagines a part of what is imagined, and is asked where students go; best: only "
        "the one whose whole trajectories return most in the learned world",
    )
    trials: int = field(64, COUNT, "whole trajectories of each of them there, for keep=best")
    bootstrap: bool = field(
        False,
        ANY,
        "each teacher but the first is trained on recorded episodes drawn with replacement, the "
        "same for all seeds of a pipeline",
    )
    target_factors: tuple[float, ...] = field(
        (1.0,),
        Allowed("one or more numbers", lambda values: len(values) > 0),
        "what config.sampling.target_return is multiplied by for each teacher in turn",
    )

    def sampling(self, sampling: SamplingConfig, index: int) -> SamplingConfig:
        """How teacher `index` is sampled."""
        factor = self.target_factors[index % len(self.target_factors)]
        return replace(sampling, target_return=sampling.target_return * factor)

    @property
    def kept(self) -> int:
        """How many of them imagine."""
        return 1 if self.keep == "best" else self.count

    def share(self, count: int, index: int) -> int:
        """How many of `count` trajectories teacher `index` of those that imagine contributes."""
        return count // self.kept + (index < count % self.kept)

    def contradictions(self, sampling: SamplingConfig) -> Iterator[str]:
        """Describe each contradiction between these fields, or with those of sampling."""
        factors = self.target_factors
        if len(factors) not in (1, self.count):
            yield (
                f"config.teachers.target_factors={factors} has {len(factors)} numbers for "
                f"config.teachers.count={self.count}; choose one for each, or one for all"
            )
        if self.keep == "best" and len(set(factors)) > 1:
            yield (
                f"config.teachers.target_factors={factors} with keep='best': the chosen teacher is "
                "sampled with config.sampling.target_return; choose one factor, or keep='all'"
            )
        if sampling.target_quantile and set(factors) != {1.0}:
            yield (
                f"config.teachers.target_factors={factors} multiplies a target that is not used "
                f"with config.sampling.target_quantile={sampling.target_quantile}; choose 0"
            )


def draw_episodes(recorded: Trajectories, seed: int, index: int) -> Trajectories:
    """Draw as many episodes as are recorded, with replacement, each in a place of its own half.

    So the baseline values it by the network that has not seen it (`baseline.halves`).

    Args:
      recorded: E episodes.
      seed: ≥ 0, of the draw.
      index: of the teacher.
    """
    generator = np.random.default_rng((seed, index))
    half = halves(len(recorded.lengths))
    drawn = np.empty(len(half), int)
    for which in range(2):
        places = np.flatnonzero(half == which)
        if places.size:  # a single episode has one half
            drawn[places] = generator.choice(places, places.size)
    return recorded.select(drawn)
