"""What is known of an environment without running it: sizes, limits, termination rule.

These facts and pure functions serve code that needs a termination rule but no simulator
(`tskd_jax.envs.simulator`). A task also holds the config values that its environment overrides.
Environments that are known by name are in `tskd_jax.envs.entries`; for any other, the facts are
read from the simulator and the data (`tskd_jax.envs.own`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tskd_jax.policy import Bounds

Observations = Float[Array, "*batch state"]
Alive = Bool[Array, "*batch"]


def never_ends(observations: Observations) -> Alive:
    """The termination rule of an environment that has none, or whose rule is unknown."""
    return jnp.ones(observations.shape[:-1], bool)


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Task:
    """What is known of an environment without running it.

    Attributes:
      name: the config's `environment.name`.
      gymnasium_id: the environment that evaluates a policy; "" if there is none.
      state_size: m.
      bounds: bounds of the actions, (n,).
      episode_limit: steps after which an episode is cut (a truncation, not a failure).
      random_return, expert_return: the returns with a normalised score of 0 and 100; None if not
        defined, in which case scores are returns.
      alive: the environment's termination rule, (..., m) -> (...); False ends an episode.
      rule_known: whether `alive` is the environment's true rule. If not, it never ends an episode,
        or is learned from recorded ends (`tskd_jax.models.termination`).
      position_size: number of leading observation entries that are positions, if MuJoCo's state
        consists of (x, observation[:position_size]) and the remaining entries as velocities;
        otherwise None.
      levels: dataset level -> dataset name.
      default_level: one of `levels`.
      overrides: section -> field -> config value for this environment at every preset
        (Appendix B). Overrides and levels do not define the environment: tasks that differ only in
        them compare equal.
      paper: like `overrides`, for the preset `paper` only.
    """

    name: str
    gymnasium_id: str
    state_size: int
    bounds: Bounds
    episode_limit: int
    random_return: float | None = None
    expert_return: float | None = None
    alive: Callable[[Array], Array] = never_ends
    rule_known: bool = True
    position_size: int | None = None
    levels: Mapping[str, str] = dataclass_field(default_factory=_nothing, compare=False)
    default_level: str = dataclass_field(default="", compare=False)
    overrides: Mapping[str, Mapping[str, Any]] = dataclass_field(
        default_factory=_nothing, compare=False
    )
    paper: Mapping[str, Mapping[str, Any]] = dataclass_field(
        default_factory=_nothing, compare=False
    )

    @property
    def action_size(self) -> int:
        """n, the number of action dimensions."""
        return len(self.bounds.low)

    @property
    def simulated(self) -> bool:
        """Whether there is a simulator."""
        return bool(self.gymnasium_id)

    def normalized_score(self, returns):
        """See the function of that name."""
        return normalized_score(self.random_return, self.expert_return, returns)


def normalized_score(random_return: float | None, expert_return: float | None, returns):
    """D4RL's score: 0 for the random policy's return, 100 for the expert's.

    Without these reference returns, the score is the return itself.
    """
    if random_return is None or expert_return is None:
        return returns
    return 100.0 * (returns - random_return) / (expert_return - random_return)
