"""HalfCheetah.

    python -m tskd_jax.main --config=configs/halfcheetah.py[:SCALE,LEVEL]

SCALE: quick (default), small, paper. LEVEL: medium, medium-replay (default), medium-expert: D4RL's
files, which are not shipped; with `--config.dataset.path=FILE.hdf5` any file in their format.
"""

from tskd_jax.config import make_config

LEVELS = {
    "medium": "halfcheetah-medium-v2",
    "medium-replay": "halfcheetah-medium-replay-v2",
    "medium-expert": "halfcheetah-medium-expert-v2",
}


def get_config(argument: str = ""):
    return make_config(
        argument,
        environment="halfcheetah",
        levels=LEVELS,
        default="medium-replay",
        overrides={"stitching": {"radius": 3.0}, "filter": {"margin": 1000.0}},
    )
