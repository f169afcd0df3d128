"""Makes Gymnasium environments, starts episodes, and checks what they give. Does not import JAX.

Processes that only step environments (`tskd_jax.envs.fleet`) thus start a second faster.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import mujoco
import numpy as np

from tskd_jax.errors import ConfigError, TskdError
from tskd_jax.policy import LARGEST_STATE

FARTHEST = 1e15  # datasets with larger states are refused (`tskd_jax.data.arrays`)


def make_environment(gymnasium_id: str, **options: Any) -> gymnasium.Env:
    """Make a Gymnasium environment; Dict observations are flattened in the order of the space.

    Gymnasium's hints at newer versions are silenced: D4RL's scores refer to -v4.

    Raises:
      ConfigError: Gymnasium does not know the environment, or cannot make it; or the environment
        does not say what its observations or actions are.
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
    for space in ("observation_space", "action_space"):
        if not isinstance(getattr(made, space, None), gymnasium.Space):
            raise ConfigError(
                f"{gymnasium_id}: it has no {space}; Gymnasium's environments set it in __init__"
            )
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


@contextmanager
def explained(gymnasium_id: str) -> Iterator[None]:
    """Convert an error inside an environment to a ConfigError that names the environment."""
    try:
        yield
    except TskdError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{gymnasium_id}: the environment itself fails ({in_a_line(error)})"
        ) from error


def in_a_line(error: Exception) -> str:
    """The type of an error and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def start_episode(environment: gymnasium.Env, seed: int) -> np.ndarray:
    """Start an episode with a seed; returns the first observation.

    Some environments (OGBench's) draw from NumPy's global generator and from their action space,
    which the seed of `reset` does not affect. These are seeded, too.

    Raises:
      ConfigError: `reset` returns something else than (observation, info), as in the old Gym; or
        as `observed` raises it.
    """
    np.random.seed(seed % 2**32)
    environment.unwrapped.action_space.seed(seed)
    found: Any = environment.reset(seed=seed)
    pair = isinstance(found, tuple | list) and len(found) == 2
    if not pair or not isinstance(found[1], Mapping | None):
        raise ConfigError(
            f"{_name(environment)}: its reset returns a {type(found).__name__}, not (observation, "
            "info); was it written for the old Gym? Gymnasium's reset(*, seed, options) returns "
            "both, and its step five values"
        )
    return observed(environment, found[0], "reset")


def observed(environment: gymnasium.Env, observation: Any, source: str) -> np.ndarray:
    """A copy of an observation as an array of real numbers, (m,).

    Integers become float64: an array of them would truncate the observations of later steps.

    Args:
      environment: the environment.
      observation: what it gave, any sequence of numbers.
      source: what gave it, for the message.

    Raises:
      ConfigError: it has another shape than the observation space.
    """
    # A copy, because some environments return the same array at each step.
    numbers = np.array(observation)
    if numbers.shape != environment.observation_space.shape:
        raise ConfigError(
            f"{_name(environment)}: its {source} gives an observation of shape {numbers.shape}, "
            f"its observation_space has {environment.observation_space.shape}; make them agree"
        )
    return numbers if numbers.dtype.kind == "f" else numbers.astype(np.float64)


def permitted(environment: gymnasium.Env, action: np.ndarray) -> np.ndarray:
    """The action (n,) in a form that the environment's action space contains.

    A float32 space contains no float64 action, and a float64 space with the bound 0.1 not the
    float32 0.1, which is larger; some environments insist that it does. Gymnasium's own do not;
    they get the action as it is, because their rewards are computed in its precision.
    """
    space = environment.action_space
    if (
        not isinstance(space, gymnasium.spaces.Box)
        or space.shape != action.shape
        or _is_gymnasiums_own(environment)
        or space.contains(action)
    ):
        return action
    if np.issubdtype(space.dtype, np.integer):
        action = np.rint(action)
    return np.clip(action, space.low, space.high).astype(space.dtype)


def acceptable(observations: np.ndarray) -> np.ndarray:
    """Observations as a policy accepts them.

    NaN counts as 0. What is infinite, or larger than a dataset may contain, counts as the largest
    state with which no policy overflows: a simulation that diverges is scored, and ends no run.
    """
    numbers = np.nan_to_num(observations)
    return np.where(np.abs(numbers) <= FARTHEST, numbers, LARGEST_STATE * np.sign(numbers))


def _name(environment: gymnasium.Env) -> str:
    return environment.spec.id if environment.spec else type(environment.unwrapped).__name__


def _is_gymnasiums_own(environment: gymnasium.Env) -> bool:
    """Whether the environment and all of its wrappers are from Gymnasium."""
    while type(environment).__module__.startswith("gymnasium."):
        if not isinstance(environment, gymnasium.Wrapper):
            return True
        environment = environment.env
    return False
