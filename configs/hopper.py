"""Hopper.

    python -m tskd_jax.main --config=configs/hopper.py[:SCALE,LEVEL]

SCALE: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert. The default took 15 minutes on one CPU core; over 5 seeds × 10 episodes it scores
BC 9.6, filtered BC 86.2, TSKD 97.1.
"""

from tskd_jax.config import make_config

LEVELS = {
    "embedded": "hopper-sac-replay",
    "medium": "hopper-medium-v2",
    "medium-replay": "hopper-medium-replay-v2",
    "medium-expert": "hopper-medium-expert-v2",
}


def get_config(argument: str = ""):
    return make_config(
        argument,
        environment="hopper",
        levels=LEVELS,
        default="embedded",
        overrides={"stitching": {"radius": 0.1}, "filter": {"margin": 500.0}},
    )
