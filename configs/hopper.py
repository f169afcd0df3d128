"""Hopper.

    tskd-jax run --config=hopper[:PRESET,LEVEL]      (or --config=configs/hopper.py[:…])

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert; the last three are D4RL's files, which are not shipped.

quick takes 9 minutes on two CPU cores (commit 068e296): BC 9.6 ± 0.2, filtered BC 86.2 ± 4.0,
TSKD, one step 84.3 ± 8.6 (5 students × 10 episodes of one teacher; README.md has others).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("hopper", argument)
