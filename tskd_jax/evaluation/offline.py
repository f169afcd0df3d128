"""Compares students with recorded data: their action errors, and whether they stay within the data.

Not in the paper. Needs no simulator and no training. Neither figure measures a student's return,
which the learned world (`tskd_jax.models.referee`) and fitted Q evaluation
(`tskd_jax.evaluation.fitted_q`) estimate.
"""

import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from tskd_jax.data.normalizer import moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.machine.batching import evenly
from tskd_jax.models import referee
from tskd_jax.models.world import World
from tskd_jax.policy import Policy
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

EPISODES = 8  # episodes of each student in the learned world
MOST_RECORDED = 200_000  # recorded states that are searched for the nearest one
QUANTILE = 0.95  # of the distances between recorded states; up to it, a state is within the data
QUERIES = 1000  # recorded states whose distances determine this quantile
CHUNK = 256  # states whose nearest neighbours are searched at once


def action_errors(
    policies: Sequence[Policy],
    held_out: Trajectories,
    *,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """Compare actions with recorded ones in held-out episodes, which no student was trained on.

    The better half is also evaluated by itself, because a student that imitates the best episodes
    should differ from the actions in poor ones.

    Args:
      policies: P policies.
      held_out: E episodes.

    Returns:
      ((P, 2, n) root mean square error by dimension, in standard deviations of the held-out
      actions, over all episodes and over those of at least the median return; metrics).
    """
    del callbacks
    _, deviation = moments(held_out.actions)
    unit = np.where(deviation > 0, deviation, 1.0)
    returns = held_out.returns()
    better = np.flatnonzero(returns >= np.median(returns))
    found = np.stack(
        [
            [
                np.sqrt(np.square(policy(data.observations) - data.actions).mean(0)) / unit
                for data in (held_out, held_out.select(better))
            ]
            for policy in policies
        ]
    )
    means = found.mean((0, 2))
    return found, [{"action_error": float(means[0]), "action_error_better": float(means[1])}]


def within_data(
    count: int,
    worlds: World,
    policies: Sequence[Policy],
    task: Task,
    recorded: Trajectories,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """The share of the states visited by a student that lie within the data.

    The student is rolled out in the learned world of its seed. A state is within the data if its
    distance to the nearest recorded state is at most the 95% quantile of recorded states' distances
    to the nearest state of another episode. Distances are in standard deviations (L2).

    Args:
      count: number of states per student, evenly spaced among those of 8 episodes.
      worlds: the learned world of each seed.
      policies: P policies with networks of the same shape.
      task: gives the termination rule and the episode limit.
      recorded: the dataset; if it is large, 200,000 evenly spaced states of it are searched.
      keys: one per pipeline seed.

    Returns:
      ((P,) shares; metrics of each pipeline seed).
    """
    del callbacks
    rows = evenly(recorded.size, MOST_RECORDED)
    mean, deviation = (one.astype(np.float32) for one in moments(recorded.observations))
    unit = np.where(deviation > 0, deviation, np.float32(1))
    data, episodes = (recorded.observations[rows] - mean) / unit, recorded.episode_of[rows]
    some = evenly(len(rows), QUERIES)
    apart = _nearest(data[some], episodes[some], data, episodes)
    limit = np.quantile(apart, QUANTILE) if len(recorded.lengths) > 1 else np.inf
    shares, metrics = [], []
    groups = referee.of_each_seed(policies, len(keys))
    for index, (key, group) in enumerate(zip(keys, groups, strict=True)):
        verdict = referee.judge_some(
            *(seeds.of_seed(worlds, index), group, task, recorded.initial_observations),
            *(EPISODES, key),
            keep_states=True,
        )
        of_seed = []
        for place in range(len(group)):
            visited = jax.tree.map(operator.itemgetter([place]), verdict).visited()
            visited = (visited[evenly(len(visited), count)] - mean) / unit
            nobody = np.full(len(visited), -1)
            of_seed.append((_nearest(visited, nobody, data, episodes) <= limit).mean())
        shares += of_seed
        metrics.append({"within": float(np.mean(of_seed))})
    return np.array(shares, np.float64), metrics


def _nearest(
    queries: np.ndarray, own: np.ndarray, states: np.ndarray, episodes: np.ndarray
) -> np.ndarray:
    """(Q,) L2 distances from each query to the nearest state outside its own episode."""
    count = len(queries)
    pad = -count % CHUNK  # all chunks have the same size, so the kernel compiles once
    queries, own = (np.concatenate([part, part[:1].repeat(pad, 0)]) for part in (queries, own))
    squares = [
        np.asarray(
            _squares(queries[first : first + CHUNK], own[first : first + CHUNK], states, episodes)
        )
        for first in range(0, count, CHUNK)
    ]
    return np.sqrt(np.maximum(np.concatenate(squares)[:count], 0))


@jax.jit
def _squares(
    queries: jax.Array, own: jax.Array, states: jax.Array, episodes: jax.Array
) -> jax.Array:
    products = jnp.matmul(queries, states.T, precision=jax.lax.Precision.HIGHEST)
    norms = (queries**2).sum(1)[:, None] + (states**2).sum(1)[None]
    apart = jnp.where(own[:, None] == episodes[None], jnp.inf, norms - 2 * products)
    return apart.min(1)
