"""HalfCheetah.

    tskd-jax run --config=halfcheetah[:PRESET,LEVEL]

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert: D4RL's files, which are not shipped (`tskd-jax data get NAME`); with
`--config.dataset.path=FILE` any other (docs/datasets.md).

No score of today's version has been measured; docs/imagination.md has those of earlier ones.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("halfcheetah", argument)
