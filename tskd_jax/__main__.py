"""Entry point of `python -m tskd_jax`, the same command as `tskd-jax`."""

from tskd_jax.cli import console

if __name__ == "__main__":
    console()
