"""What an entry of `--datasets` means."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tskd_jax.envs.entries import TASKS
from tskd_jax.errors import ConfigError


class Dataset(NamedTuple):
    """What an entry of --datasets means.

    Attributes:
      label: in tables, and of the runs' folder.
      environment: of ours.
      level: of the environment, or "".
      source: a file, or a name for `config.dataset.name`, or "".
    """

    label: str
    environment: str
    level: str = ""
    source: str = ""


def parse_dataset(text: str) -> Dataset:
    """An environment (its own level), ENVIRONMENT:LEVEL, ENVIRONMENT:FILE, or a file or D4RL's name
    that begins with the environment's.

    Raises:
      ConfigError: no environment of ours goes with it.
    """
    environment, colon, rest = text.partition(":")
    if environment in TASKS:
        task = TASKS[environment]
        level = rest if colon else task.default_level
        if level in task.levels:
            return Dataset(f"{environment}-{level}", environment, level)
        if not rest:
            raise ConfigError(f"--datasets={text}: there is nothing after the colon")
        return Dataset(Path(rest).stem, environment, source=rest)
    for known, task in TASKS.items():
        for level, of_level in task.levels.items():
            if text == of_level:  # its published settings are those of the level
                return Dataset(f"{known}-{level}", known, level)
    name = Path(text).stem.replace("-", "_")
    found = [known for known in TASKS if name.startswith(f"{known}_")]
    if not found:
        raise ConfigError(
            f"--datasets={text}: begins with none of {', '.join(TASKS)}; give ENVIRONMENT:FILE"
        )
    return Dataset(Path(text).stem, max(found, key=len), source=text)


def parse_datasets(texts: Iterable[str]) -> list[Dataset]:
    """Several entries of --datasets.

    Raises:
      ConfigError: as for `parse_dataset`; or two of them would share a row and a folder.
    """
    found: dict[str, str] = {}
    datasets = []
    for text in texts:
        dataset = parse_dataset(text)
        if found.setdefault(dataset.label, text) != text:
            raise ConfigError(
                f"--datasets={found[dataset.label]},{text}: both would be called {dataset.label}; "
                "rename or copy a file, or give each a call and a --workdir of its own"
            )
        datasets.append(dataset)
    return datasets
