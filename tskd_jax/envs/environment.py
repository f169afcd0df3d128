"""Environments of Gymnasium: make one, and start an episode in it. Imports no JAX.

Processes that do nothing but step environments (`tskd_jax.envs.fleet`) start a second sooner so.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium
import mujoco
import numpy as np

from tskd_jax.errors import ConfigError


def make_environment(gymnasium_id: str, **options: Any) -> gymnasium.Env:
    """An environment of Gymnasium, whose Dict observations are vectors in the order of the space.

    It says nothing of newer versions: D4RL's scores refer to -v4.

    Raises:
      ConfigError: Gymnasium does not know it, or cannot make it.
    """
    level = gymnasium.logger.min_level
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    try:
        # Newer MuJoCo warns of an attribute in HalfCheetah's model, once for each environment.
        with without_warnings():
            made = gymnasium.make(gymnasium_id, disable_env_checker=True, **options)
    except Exception as error:  # what an environment needs, it says in its own way
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
    """MuJoCo writes no warnings, neither to the screen nor to a file in the current folder."""
    mujoco.set_mju_user_warning(lambda _message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(None)


def start_episode(environment: gymnasium.Env, seed: int) -> np.ndarray:
    """The observation in which an episode starts.

    Some environments (OGBench's) draw from NumPy's global generator and from their own space of
    actions, which the seed of `reset` does not reach.
    """
    np.random.seed(seed % 2**32)
    environment.unwrapped.action_space.seed(seed)
    return environment.reset(seed=seed)[0]
