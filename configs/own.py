"""Your own robot: any data, with a simulator or without.

    tskd-jax run --config=own[:PRESET] --config.dataset.path=FILE
    tskd-jax run --config=own[:PRESET] --config.dataset.path=FILE \
        --config.environment.gymnasium_id=Ant-v5

PRESET: quick (default), small, paper. With `environment.gymnasium_id` that environment evaluates,
and says sizes, bounds and limit. Without it the data say them, and students are judged offline:
docs/own-data.md.
"""

from tskd_jax.config import make_config


def get_config(argument: str = ""):
    return make_config("own", argument)
