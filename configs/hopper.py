"""Hopper.

    tskd-jax run --config=hopper[:PRESET,LEVEL]      (or --config=configs/hopper.py[:…])

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert; the last three are D4RL's files, which are not shipped.

quick takes 7 to 9 minutes on two CPU cores. Scores: BC 9.6 ± 0.1; filtered BC 88.5 ± 2.2; "TSKD,
one step": the same students (5 students × 10 episodes, one teacher; README.md has more).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("hopper", argument)
