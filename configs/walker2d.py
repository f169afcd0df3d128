"""Walker2d.

    tskd-jax run --config=walker2d[:PRESET,LEVEL]

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert: D4RL's files, which are not shipped (`tskd-jax data get NAME`); with
`--config.dataset.path=FILE` any other (docs/datasets.md).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("walker2d", argument)
