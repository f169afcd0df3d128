"""Hopper.

    tskd-jax run --config=hopper[:PRESET,LEVEL]      (or --config=configs/hopper.py[:…])

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert; the last three are D4RL's files, which are not shipped.

quick takes 7 minutes on two CPU cores (commit 7ceb925): BC 9.8 ± 0.1, filtered BC 94.6 ± 0.9,
TSKD, one step 80.2 ± 13.0 (5 students × 10 episodes of one teacher; README.md has others).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("hopper", argument)
