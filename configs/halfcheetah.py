"""HalfCheetah.

    tskd-jax run --config=halfcheetah[:PRESET,LEVEL]

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert; the last three are D4RL's files, which are not shipped (`tskd-jax data get NAME`).
`--config.dataset.path=FILE` selects any other file (docs/datasets.md).

quick takes 9 to 10 minutes on two CPU cores. Scores: BC 2.8 ± 0.6; filtered BC 46.0 ± 0.1; "TSKD,
one step" 46.5 ± 0.0 (5 students × 10 episodes, one teacher, at commit cd3e46f).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("halfcheetah", argument)
