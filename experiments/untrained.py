"""Models and trainings as large as a config's, of which nothing is trained."""

from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.machine.types import Config
from tskd_jax.models import baseline as expectation
from tskd_jax.models.baseline import Expectation
from tskd_jax.teacher import trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds


def fresh_trajectory_generator(
    config: Config, recorded: Trajectories
) -> tuple[Diffuser, Expectation | None]:
    """DDR-I of a final config, and the expectation that it is made of, if it is made of one."""
    generator, expected = config.trajectory_generator, None
    if trajectory_generator.needs_expectation(generator):
        expected = expectation.create(config.expectation, recorded, generator.discount)
    return trajectory_generator.create(generator, recorded, expected), expected


class _Captured(Exception):
    """What a training was about to do."""


def begun(train: Callable[[], Any], place: ModuleType = seeds) -> dict[str, Any]:
    """The arguments of `training.fit`, by name, of a training that is begun and not done.

    Args:
      train: calls `place.fit`.
      place: the module through which it does.
    """

    def capture(name, init, loss, draw, data, optimizer, **what):
        parts = {"init": init, "loss": loss, "draw": draw, "data": data, "optimizer": optimizer}
        raise _Captured({"name": name} | parts | what)

    try:
        with mock.patch.object(place, "fit", capture):
            train()
    except _Captured as captured:
        return captured.args[0]
    raise RuntimeError(f"{place.__name__}.fit was not called")
