"""A termination rule learned from recorded ends, for an environment whose rule is unknown.

Not in the paper, which knows the rule of each environment (Algorithm 1 checks it after every step).
Without a rule, imagination and the learned world would go on after a fall, or after a goal, as if
nothing had happened. The data records which next states end an episode; the rule learned from them
replaces `Task.alive`.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from tskd_jax.data.normalizer import Normalizer, fit_normalizer
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.fields import ANY, WIDTHS, field
from tskd_jax.machine.batching import in_batches
from tskd_jax.machine.types import Leaf
from tskd_jax.nn.mlp import MLP
from tskd_jax.training import seeds
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.callbacks import TrainingCallbacks
from tskd_jax.training.loop import fit
from tskd_jax.training.training import (
    Training,
    TrainingConfig,
    batch_size_field,
    learning_rate_field,
    schedule_field,
    steps_field,
)

FEWEST = 10  # recorded ends that are needed to learn a rule
HELD_OUT = 0.2  # of the episodes that end
FACE = 0.1  # share of the ends that a limit must explain beyond all earlier limits
FALSE = 0.1  # false alarms of the network per recorded end: states from which an episode went on
RECOGNISED = 0.5  # share of held-out ends that a rule must recognise; else the state does not tell


@dataclass(frozen=True)
class Config(TrainingConfig):
    """`config.termination`."""

    learned: bool = field(
        True, ANY, "where an environment's rule is unknown, from the recorded ends of episodes"
    )
    steps: int = steps_field(10_000, "not in the paper")
    batch_size: int = batch_size_field(256, "not in the paper")
    learning_rate: float = learning_rate_field(3e-3, "not in the paper")
    schedule: str = schedule_field("cosine")
    hidden: tuple[int, ...] = field((64, 64), WIDTHS, "hidden layers")


@dataclass(frozen=True, eq=False)
class Termination:
    """A rule that says which states end an episode; replaces `Task.alive`.

    An episode ends in a state beyond a limit, or where the network says so. Most simulators use
    limits, and no network is as sharp. The network covers the ends that limits do not explain (a
    goal, a tip that falls).

    An instance equals only itself, so that a compiled program may hold it as a constant; the key of
    a stage depends on its content.

    Attributes:
      low, high: (m,) limits of the state, raw units; infinite where there is none.
      states: normaliser of s', for the network.
      params: of the network; None: there is no network.
      least: logit above which a state ends an episode.
      hidden: widths of the hidden layers.
    """

    low: Leaf
    high: Leaf
    states: Normalizer
    params: Leaf
    least: float
    hidden: tuple[int, ...]

    @property
    def network(self) -> MLP:
        return MLP(self.hidden, 1)

    def logits(
        self, params: Leaf, observations: Float[Array, "*batch state"]
    ) -> Float[Array, "*batch"]:
        """Logits that states (raw units) end an episode, if half of all states did."""
        output = self.network.apply(params, self.states.normalize(observations))
        return jnp.squeeze(output, -1)

    def __call__(self, observations: Float[Array, "*batch state"]) -> Bool[Array, "*batch"]:
        """True for states (raw units) from which an episode goes on."""
        low, high = (jnp.broadcast_to(x, observations.shape) for x in (self.low, self.high))
        alive = ((observations >= low) & (observations <= high)).all(-1)
        if self.params is None:
            return alive
        return alive & (self.logits(self.params, observations) <= self.least)

    def __str__(self) -> str:
        limits = [
            *(f"observation {i} < {value:.4g}" for i, value in enumerate(self.low)),
            *(f"observation {i} > {value:.4g}" for i, value in enumerate(self.high)),
        ]
        finite = np.isfinite(np.concatenate([self.low, self.high])).tolist()
        said = [limit for limit, shown in zip(limits, finite, strict=True) if shown]
        return " or ".join(said + ["a network says so"] * (self.params is not None))


def train(
    config: Config, trajectories: Trajectories, *, callbacks: TrainingCallbacks | None = None
) -> tuple[Termination | None, dict[str, int | float]]:
    """Learn what ends an episode, and measure the rule on held-out episodes.

    The rule is a fact of the environment: it does not depend on a run's seed.

    Returns:
      (the rule, or None if there are too few ends or the state does not tell them; metrics: the
      number of recorded ends; in held-out episodes, the share of ends that are recognised, and the
      share of other states that are taken for ends, although the network's threshold was chosen
      with these states, too).
    """
    ended = np.flatnonzero(trajectories.terminals[trajectories.ends])
    report = callbacks.report if callbacks else lambda line: None
    states, ends = trajectories.next_observations, trajectories.terminals.astype(bool)
    chosen = np.random.default_rng(0).permutation(ended)[: round(HELD_OUT * len(ended))]
    held_out = np.isin(trajectories.episode_of, chosen)
    others = ~ends & ~held_out
    if len(ended) < FEWEST or not others.any():
        report(f"warning: what ends an episode cannot be learned of {len(ended)} recorded ends")
        return None, {"ends": len(ended)}
    low, high = _limits(states[~held_out], ends[~held_out])
    normalizer = fit_normalizer("gaussian", states)
    rule = Termination(low, high, normalizer, None, 0.0, config.hidden)
    alive = _alive(rule, states)
    unexplained = alive & ends & ~held_out
    if unexplained.sum() > FACE * (ends & ~held_out).sum():
        plan = training(config, rule, trajectories, unexplained, others)
        rule = replace(rule, params=seeds.of_seed(fit(plan, callbacks).params, 0))
        apply = jax.jit(lambda batch: rule.logits(rule.params, batch))
        highest = np.sort(in_batches(apply, states[~ends]))[::-1]
        false = min(int(FALSE * len(ended)), len(highest) - 1)
        rule = replace(rule, least=max(0.0, float(highest[false])))
        alive = _alive(rule, states)
    recognised = 1 - float(alive[ends & held_out].mean())
    mistaken = (~alive[~ends & held_out]).sum()
    metrics = {
        "ends": len(ended),
        "recognised": recognised,
        "false_alarms": float(mistaken / max(1, (~ends & held_out).sum())),
    }
    if recognised < RECOGNISED or mistaken > (ends & held_out).sum():
        report(
            f"warning: of {len(ended)} ends of episodes {recognised:.0%} are recognised by their "
            "states; in imagination and in the learned world none ends early. Check that terminals "
            "mark what ends a task, not where recording stopped, and that next states are recorded"
        )
        return None, metrics
    report(f"learned: an episode ends where {rule} ({recognised:.0%} of ends held out recognised)")
    return rule, metrics


def training(
    config: Config,
    rule: Termination,
    trajectories: Trajectories,
    ends: np.ndarray,
    others: np.ndarray,
) -> Training:
    """The training of the network; half of each batch are ends.

    Args:
      config: of this part.
      rule: the rule without the network's parameters.
      trajectories: the recorded dataset.
      ends, others: (N,) bool, which transitions lead to an end, and which to other states.
    """

    def draw(data, key):
        states, *kinds = data
        keys, half = jax.random.split(key), max(1, config.batch_size // 2)
        return tuple(
            uniform_rows(states, one, half, rows=rows)
            for rows, one in zip(kinds, keys, strict=True)
        )

    def loss(params, _ema, batch, _key):
        ends, others = (rule.logits(params, states) for states in batch)
        wrong = optax.sigmoid_binary_cross_entropy
        return (wrong(ends, jnp.ones_like(ends)) + wrong(others, jnp.zeros_like(others))).mean() / 2

    states = trajectories.next_observations
    return Training(
        name="termination",
        init=lambda key: rule.network.init(key, jnp.zeros((1, states.shape[1]))),
        loss=loss,
        draw=draw,
        data=(states, np.flatnonzero(ends), np.flatnonzero(others)),
        optimizer=config.optimizer(),
        steps=config.steps,
        keys=jax.random.key(0)[None],
    )


def _limits(states: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest s' with which an episode goes on, (m,) each; infinite: no limit.

    A limit lies halfway between the most extreme state from which an episode went on and the first
    end beyond it. Limits that explain most ends come first. A limit is accepted only if it explains
    more than a share of `FACE` of all ends, and more than two ends, that no earlier limit explains:
    among many dimensions, some are always at an extreme where an episode happens to end.
    """
    going, ending = states[~ends], states[ends]
    # Lower limits are negated, so that an end always lies above its limit.
    most = np.concatenate([-going.min(0), going.max(0)])
    unexplained = np.concatenate([-ending, ending], 1)
    limits, fewest = np.full(len(most), np.inf), max(FACE * len(ending), 2)
    while len(unexplained):
        beyond = unexplained > most
        best = int(beyond.sum(0).argmax())
        if beyond[:, best].sum() <= fewest:
            break
        limits[best] = (most[best] + unexplained[beyond[:, best], best].min()) / 2
        unexplained = unexplained[~beyond[:, best]]
    low, high = np.split(limits.astype(np.float32), 2)
    return -low, high


def _alive(rule: Termination, states: np.ndarray) -> np.ndarray:
    return in_batches(jax.jit(rule.__call__), states).astype(bool)
