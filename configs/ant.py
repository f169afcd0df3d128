"""Ant, with the 84 contact forces in D4RL's observations.

    tskd-jax data get ant-medium-replay-v2
    tskd-jax run --config=ant[:PRESET,LEVEL]

PRESET: quick (default), small, paper. LEVEL: medium, medium-replay (default), medium-expert: D4RL's
files. No score has been measured. For data without contact forces (27 numbers), use
`--config=own --config.environment.gymnasium_id=Ant-v4`.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("ant", argument)
