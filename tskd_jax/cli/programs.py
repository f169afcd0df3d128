"""The programs of a config, for `tskd-jax compile` and `tskd-jax bench`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from absl import flags
from ml_collections import ConfigDict

from tskd_jax.errors import ConfigError

if TYPE_CHECKING:
    from tskd_jax.config import Config
    from tskd_jax.costs.programs import Program
    from tskd_jax.data.trajectories import Trajectories
    from tskd_jax.envs.tasks import Task


def define(values: flags.FlagValues) -> None:
    """Define the flags that select programs, and the folder for their figures."""
    flags.DEFINE_integer(
        "transitions", None, "Of a dataset that is not here.", 1, flag_values=values
    )
    flags.DEFINE_list("programs", [], "Only these, as trajectory_generator.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where the figures go.", flag_values=values)


class Found(NamedTuple):
    """A config's programs, with the config, dataset and task that they belong to."""

    programs: list["Program"]
    config: "Config"
    recorded: "Trajectories"
    task: "Task"


def programs_of_config(base: ConfigDict, transitions: int | None, only: Sequence[str]) -> Found:
    """Find the requested programs of a config.

    Args:
      base: a user's config.
      transitions: size of a dataset of noise that replaces the config's; None: use the config's.
      only: names of programs; empty: all.

    Raises:
      ConfigError: a requested program does not exist, or noise cannot replace data of `own`.
      DatasetError: `transitions` is None, and the dataset is not on this machine, or not usable.
    """
    from tskd_jax.cli.comparison import comparisons
    from tskd_jax.cli.recorded import read_recorded
    from tskd_jax.config import finalize
    from tskd_jax.costs.fresh import stand_in
    from tskd_jax.costs.programs import programs_of
    from tskd_jax.envs import own
    from tskd_jax.envs.entries import OWN, get_task

    config, _ = finalize(base.copy_and_resolve_references())
    environment = config.environment
    if transitions is None:
        found = read_recorded(config)
        recorded, task = found.trajectories, found.task
    elif environment.name == OWN:
        raise ConfigError("--transitions stands for data of an environment that is known by name")
    else:
        recorded = stand_in(get_task(environment.name), transitions)
        task = own.task_of(environment, recorded, config.dataset.source)
    print(f"{base.label}: {recorded.size} transitions; tracing its programs", flush=True)
    programs = programs_of(config, comparisons(config), recorded, task)
    names = dict.fromkeys(one.stage for one in programs)
    if unknown := [name for name in only if name not in names]:
        raise ConfigError(f"--programs={unknown[0]}: none of this config's: {', '.join(names)}")
    chosen = [one for one in programs if not only or one.stage in only]
    return Found(chosen, config, recorded, task)
