"""A toy in which an action and a reward are one of two, and what both have in common is known.

A state s is a number, the next one is -s. Actions are 2 + s ± 0.8 and rewards 5 + 2a ± 2, the signs
drawn evenly and on their own. A mean of what was recorded would hit neither of the two.
"""

from dataclasses import replace

import numpy as np
import pytest
from run.run_helpers import EVERY_CHUNK, KEY, Killed, begin

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.policy import Bounds

ACTION, REWARD = 0.8, 2.0
TASK = Task("toy", "", 1, Bounds((0.0,), (4.0,)), 10)
HOPPER = Task("hopper", "", 11, Bounds.symmetric(1.0, 3), 1000)


def recorded(rows: int = 2000, seed: int = 0) -> Trajectories:
    """Episodes of a single transition."""
    rng = np.random.default_rng(seed)
    states = rng.uniform(-1, 1, (rows, 1))
    signs = rng.choice([-1.0, 1.0], (2, rows))
    actions = 2 + states[:, 0] + ACTION * signs[0]
    return from_columns(
        observations=states,
        actions=actions[:, None],
        rewards=5 + 2 * actions + REWARD * signs[1],
        next_observations=-states,
        terminals=np.ones(rows, bool),
        lengths=np.ones(rows, int),
    )


def of_size(task: Task, rows: int = 20) -> Trajectories:
    """One episode of zeros."""
    states = np.zeros((rows, task.state_size))
    return from_columns(
        observations=states,
        actions=np.zeros((rows, task.action_size)),
        rewards=np.zeros(rows),
        next_observations=states,
        terminals=np.zeros(rows, bool),
        lengths=[rows],
    )


def queries(rows: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """States (rows, 1) and their next ones."""
    states = np.random.default_rng(1).uniform(-1, 1, (rows, 1)).astype(np.float32)
    return states, -states


def resumed_after_a_kill(path, train):
    """What `train`, given callbacks, ends in after a kill in the middle and in a new process."""
    callbacks = begin(path, checkpoint_seconds=EVERY_CHUNK).callbacks(KEY, "part")

    def die(state):
        callbacks.save(state)
        if int(state.step) >= 7:
            raise Killed

    with pytest.raises(Killed):
        train(replace(callbacks, save=die))
    callbacks, begun = begin(path).callbacks(KEY, "part"), []

    def restore(state):
        state = callbacks.restore(state)
        begun.append(int(state.step))
        return state

    models = train(replace(callbacks, restore=restore))
    assert begun[0] >= 7
    return models
