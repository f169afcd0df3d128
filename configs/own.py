"""Your own robot: any data, with or without a simulator.

    tskd-jax run --config=own[:PRESET] --config.dataset.path=FILE
    tskd-jax run --config=own[:PRESET] --config.dataset.path=FILE \
        --config.environment.gymnasium_id=Ant-v5

PRESET: quick (default), small, paper. With `environment.gymnasium_id`, students are evaluated in
that environment, which also defines sizes, bounds and episode limit. Without it, these come from
the data, and students are evaluated offline (docs/own-data.md).
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("own", argument)
