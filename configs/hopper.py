"""Hopper.

    tskd-jax run --config=hopper[:PRESET,LEVEL]      (or --config=configs/hopper.py[:…])

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert; the last three are D4RL's files, which are not shipped.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("hopper", argument)
