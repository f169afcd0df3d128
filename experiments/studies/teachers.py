"""What several scripts begin with: a run's folder, its dataset, a teacher trained there once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import jax

from tskd_jax.cli.recorded import load_recorded
from tskd_jax.config import Config, Options, to_plain
from tskd_jax.machine.signals import Request
from tskd_jax.methods.base import Experiment, Teacher
from tskd_jax.methods.parts.models import train_trajectory_generator
from tskd_jax.models import inverse_dynamics
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.run.run import Run

Tree = TypeVar("Tree")


@contextmanager
def opened(
    config: Config, options: Options, workdir: str | None, request: Request | None = None
) -> Iterator[tuple[Experiment, Run]]:
    """The experiment of a config in a run's folder, which is made where it does not exist.

    Args:
      config: of the run.
      options: label, of which the default folder is, and checkpoint_seconds.
      workdir: the folder; None: runs/LABEL, as of the command.
      request: whether a signal has asked to end.
    """
    run = Run(
        Path(workdir).expanduser() if workdir else Path("runs") / options.label,
        to_plain(config),
        checkpoint_seconds=options.checkpoint_seconds,
        request=request,
    )
    try:
        recorded, _, task = load_recorded(config, run)
        yield Experiment("trial", config, task, recorded, run), run
    finally:
        run.close()


def train_inverse_dynamics(exp: Experiment) -> InverseDynamics:
    """f(s, s') of the first pipeline seed, a leading axis of one."""
    config = exp.config.inverse_dynamics
    return first_seed(exp.stage(inverse_dynamics.train, config, exp.recorded, exp.task))


def train_teacher(exp: Experiment) -> Teacher:
    """DDR-I and f(s, s') of the first pipeline seed, a leading axis of one."""
    inverse = train_inverse_dynamics(exp)
    return Teacher(first_seed(train_trajectory_generator(exp)), inverse)


def first_seed(tree: Tree) -> Tree:
    """The first seed's share of a pytree: (S, …) -> (1, …)."""
    return jax.tree.map(lambda leaf: leaf[:1], tree)


def seconds_of(run: Run, keys: list[str]) -> float:
    """How long the stages with these keys took, whenever they were computed."""
    return sum(run.manifest["stages"][key]["seconds"] for key in dict.fromkeys(keys))
