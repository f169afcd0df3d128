"""Makes Gymnasium environments and starts episodes in them. Does not import JAX.

Processes that only step environments (`tskd_jax.envs.fleet`) thus start a second faster.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import mujoco
import numpy as np

from tskd_jax.errors import ConfigError


def make_environment(gymnasium_id: str, **options: Any) -> gymnasium.Env:
    """Make a Gymnasium environment; Dict observations are flattened in the order of the space.

    Gymnasium's hints at newer versions are silenced: D4RL's scores refer to -v4.

    Raises:
      ConfigError: Gymnasium does not know the environment, or cannot make it.
    """
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    try:
        # Newer MuJoCo warns about an attribute in HalfCheetah's model, once per environment.
        with without_warnings():
            made = gymnasium.make(gymnasium_id, disable_env_checker=True, **options)
    except Exception as error:  # environments raise errors of their own for missing requirements
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{gymnasium_id}: Gymnasium cannot make it ({type(error).__name__}: {reason}); see "
            "gymnasium.pprint_registry(), and MODULE:ID for an environment of a package"
        ) from error
    finally:
        gymnasium.logger.min_level = level
    if isinstance(made.observation_space, gymnasium.spaces.Dict):
        return gymnasium.wrappers.FlattenObservation(made)
    return made


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence MuJoCo's warnings, on the screen and in a file in the current folder."""
    mujoco.set_mju_user_warning(lambda _message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def start_episode(environment: gymnasium.Env, seed: int) -> np.ndarray:
    """Start an episode with a seed; returns the first observation.

    Some environments (OGBench's) draw from NumPy's global generator and from their action space,
    which the seed of `reset` does not affect. These are seeded, too.
    """
    np.random.seed(seed % 2**32)
    environment.unwrapped.action_space.seed(seed)
    return environment.reset(seed=seed)[0]
