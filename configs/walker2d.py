"""Walker2d.

    python -m tskd_jax.main --config=configs/walker2d.py[:SCALE,LEVEL]

SCALE: quick (default), small, paper. LEVEL: medium, medium-replay (default), medium-expert: D4RL's
files, which are not shipped; with `--config.dataset.path=FILE.hdf5` any file in their format.
"""

from tskd_jax.config import make_config

LEVELS = {
    "medium": "walker2d-medium-v2",
    "medium-replay": "walker2d-medium-replay-v2",
    "medium-expert": "walker2d-medium-expert-v2",
}


def get_config(argument: str = ""):
    return make_config(
        argument,
        environment="walker2d",
        levels=LEVELS,
        default="medium-replay",
        overrides={"stitching": {"radius": 1.0}, "filter": {"margin": 1000.0}},
    )
