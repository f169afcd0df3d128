"""What is known of an environment without running it: sizes, limits, the rule that ends episodes.

Pure facts and pure functions, for parts that need a termination rule but no simulator
(`tskd_jax.envs.simulator`), and what a config takes over from its environment. The environments
that are known by name are `tskd_jax.envs.entries`; of any other the facts are read from the
simulator and the data (`tskd_jax.envs.own`).
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
    """The rule of an environment without one, or whose rule nobody knows."""
    return jnp.ones(observations.shape[:-1], bool)


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Task:
    """What is known of an environment without running it.

    Attributes:
      name: the config's `environment.name`.
      gymnasium_id: the environment that evaluates a policy; "" where there is none.
      state_size: m.
      bounds: between what actions lie, (n,).
      episode_limit: steps after which an episode is cut (a truncation, not a failure).
      random_return, expert_return: the ends of the normalised score; None where nobody has set
        them: scores are then returns.
      alive: the environment's termination rule, (..., m) -> (...); False ends an episode.
      rule_known: whether that is so; if not, `alive` never ends one, or is learned from recorded
        ends (`tskd_jax.models.termination`).
      position_size: how many leading observation entries are positions, where MuJoCo's state is
        (x, observation[:position_size]) and the velocities behind it; None where it is not.
      levels: dataset level -> dataset name.
      default_level: one of them.
      overrides: section -> field -> value that a config has for this environment at every preset
        (Appendix B). Neither these nor the levels are a part of what the environment is: tasks
        that differ in nothing else are equal.
      paper: the same, at preset `paper` alone.
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
        """n."""
        return len(self.bounds.low)

    @property
    def simulated(self) -> bool:
        """Whether there is a simulator."""
        return bool(self.gymnasium_id)

    def normalized_score(self, returns):
        """See the function of that name."""
        return normalized_score(self.random_return, self.expert_return, returns)


def normalized_score(random_return: float | None, expert_return: float | None, returns):
    """D4RL's score: 0 for the random policy's return, 100 for the expert's; or the return."""
    if random_return is None or expert_return is None:
        return returns
    return 100.0 * (returns - random_return) / (expert_return - random_return)
