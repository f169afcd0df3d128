"""Models as large as a config's, without a training: their speed is that of trained ones."""

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.teacher import expectation, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.teacher.expectation import Expectation
from tskd_jax.types import Config


def fresh_trajectory_generator(
    config: Config, recorded: Trajectories
) -> tuple[Diffuser, Expectation | None]:
    """DDR-I of a final config, and the expectation that it is made of, if it is made of one."""
    generator, expected = config.trajectory_generator, None
    if trajectory_generator.needs_expectation(generator):
        expected = expectation.create(config.expectation, recorded, generator.discount)
    return trajectory_generator.create(generator, recorded, expected), expected
