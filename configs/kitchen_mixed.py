"""D4RL's Kitchen, mixed: microwave, kettle, bottom burner, light switch.

    pip install 'tskd_jax[robotics]'     the simulator, and MuJoCo below 3.12
    tskd-jax data get kitchen-mixed-v0
    tskd-jax run --config=kitchen_mixed[:PRESET]

PRESET: quick (default), small, paper (C = 20, H - C = 56). A score is the percentage of
completed subtasks. No score on D4RL's data has been measured.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("kitchen_mixed", argument)
