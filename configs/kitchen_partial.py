"""D4RL's Kitchen, partial: microwave, kettle, light switch, slide cabinet.

    pip install 'tskd_jax[robotics]'     the simulator, and MuJoCo below 3.12
    tskd-jax data get kitchen-partial-v0
    tskd-jax run --config=kitchen_partial[:PRESET]

PRESET: quick (default), small, paper (C = 20, H - C = 56). A score is the percentage of
completed subtasks. No score on D4RL's data has been measured.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("kitchen_partial", argument)
