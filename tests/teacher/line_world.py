"""A point on a line, recorded going both ways: who imitates all of it stands still."""

import numpy as np

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.simulator import Act
from tskd_jax.envs.tasks import Task
from tskd_jax.policy import Bounds

TASK = Task("line", "none", 1, Bounds((-1.0,), (1.0,)), 12)
STEP = 0.1  # how far the largest action moves


def recorded(episodes: int = 60, steps: int = 12) -> Trajectories:
    """Episodes that go left or right by turns, in noisy steps; a reward is the way to the right."""
    rng = np.random.default_rng(0)
    direction = np.tile([-1.0, 1.0], episodes // 2)[:, None]
    actions = np.clip(0.7 * direction + 0.2 * rng.normal(size=(episodes, steps)), -1, 1)
    starts = rng.uniform(-0.5, 0.5, (episodes, 1))
    states = np.concatenate([starts, starts + STEP * np.cumsum(actions, 1)], 1)
    return from_columns(
        observations=states[:, :-1].reshape(-1, 1),
        actions=actions.reshape(-1, 1),
        rewards=actions.reshape(-1),
        next_observations=states[:, 1:].reshape(-1, 1),
        terminals=np.zeros(episodes * steps, bool),
        lengths=np.full(episodes, steps),
    )


def play(act: Act, episodes: int = 6, steps: int = 3) -> np.ndarray:
    """(E, steps) actions from starts spread over the data."""
    states = np.linspace(-0.4, 0.4, episodes, dtype=np.float32)[:, None]
    taken, rewards = [], np.zeros(episodes)
    for time in range(steps):
        actions = act(states, time, rewards)
        assert actions.shape == (episodes, 1)
        states = (states + STEP * actions).astype(np.float32)
        rewards = actions[:, 0]
        taken.append(actions[:, 0])
    return np.stack(taken, 1)
