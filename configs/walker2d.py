"""Walker2d.

    tskd-jax run --config=walker2d[:PRESET,LEVEL]

PRESET: quick (default), small, paper. LEVEL: embedded (default), medium, medium-replay,
medium-expert; the last three are D4RL's files, which are not shipped (`tskd-jax data get NAME`).
`--config.dataset.path=FILE` selects any other file (docs/datasets.md).

quick takes 8 to 9 minutes on two CPU cores. Scores: BC 8.3 ± 1.0; filtered BC 40.7 ± 9.5; "TSKD,
one step" 41.1 ± 13.2 (5 students × 10 episodes, one teacher, at commit fd95129).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("walker2d", argument)
