"""Walker2d.

    tskd-jax run --config=walker2d[:PRESET,LEVEL]

PRESET: quick (default), small, paper. LEVEL: medium, medium-replay (default), medium-expert: D4RL's
files, which are not shipped; with `--config.dataset.path=FILE.hdf5` any file in their format.

No score of today's version has been measured.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("walker2d", argument)
