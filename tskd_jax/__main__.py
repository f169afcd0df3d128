"""`python -m tskd_jax`: the command `tskd-jax`."""

from tskd_jax.cli import console

if __name__ == "__main__":
    console()
