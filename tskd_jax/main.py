"""`python -m tskd_jax.main`, the same as `tskd-jax`; with --config=… alone it is `tskd-jax run`."""

import sys
from pathlib import Path

if __name__ == "__main__" and not __package__:  # run as a script, e.g. by an IDE
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tskd_jax.cli import console, main

__all__ = ["console", "main"]

if __name__ == "__main__":
    console()
