"""Files that a command will write: one that cannot be written is refused in one line."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tskd_jax.errors import ConfigError


def new_file(given: str, endings: Sequence[str] = (), said: str = "") -> Path:
    """The path of a file to write. Leaves neither file nor folder.

    Args:
      given: the path, as the user wrote it.
      endings: what it may end in, in lower case; none: in anything.
      said: what the message names; by default, the path.

    Raises:
      ConfigError: its ending is another one, it is there already, or it cannot be written.
    """
    path = Path(os.path.expanduser(given))
    said = said or str(path)
    if endings and path.suffix.lower() not in endings:
        raise ConfigError(f"{said}: name it {' or '.join(f'FILE{one}' for one in endings)}")
    if path.exists():
        raise ConfigError(f"{said}: is there already; remove it, or choose another name")
    if problem := _unwritable(path):
        raise ConfigError(f"{said}: cannot be written ({problem}); choose another place")
    return path


def _unwritable(path: Path) -> str:
    """Why a file cannot be written, or "" if it can."""
    made = [folder for folder in path.parents if not folder.exists()]
    trial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # as while it is written
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        trial.touch()
        trial.unlink()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
    return ""
