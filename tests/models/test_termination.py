"""The learned termination rule, where the true one is known."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.models import termination
from tskd_jax.policy import Bounds
from tskd_jax.training.callbacks import TrainingCallbacks

CONFIG = termination.Config(steps=3000)
TASK = Task("own", "", 3, Bounds((-1.0,), (1.0,)), 100, rule_known=False)


def walks(ends, episodes: int = 150, limit: int = 100) -> Trajectories:
    """Random walks of three numbers, each until `ends` says so, or the limit."""
    rng = np.random.default_rng(0)
    states, following, terminals, lengths = [], [], [], []
    for _ in range(episodes):
        state = rng.uniform(-0.5, 0.5, 3)
        path = state + 0.2 * np.cumsum(rng.normal(size=(limit, 3)), 0)
        length = min(limit, 1 + int((*np.flatnonzero(ends(path)), limit)[0]))
        states += [state, *path[: length - 1]]
        following += [*path[:length]]
        terminals += [*ends(path[:length])]
        lengths.append(length)
    return from_columns(
        observations=np.array(states),
        actions=np.zeros((len(states), 1)),
        rewards=np.zeros(len(states)),
        next_observations=np.array(following),
        terminals=np.array(terminals),
        lengths=lengths,
    )


def learn(trajectories, config=CONFIG):
    heard = []
    rule, metrics = termination.train(
        config, trajectories, callbacks=TrainingCallbacks(report=heard.append)
    )
    return rule, metrics, heard


def fallen(states):
    return (states[..., 0] < -1.0) | (states[..., 2] > 1.5)


def at_goal(states):
    return np.square(states[..., :2] - 1.0).sum(-1) < 0.5


@pytest.fixture(scope="module")
def falls():
    return walks(fallen)


def test_limits_are_found_and_said(falls):
    rule, metrics, (line,) = learn(falls)
    assert rule.params is None
    np.testing.assert_array_equal(np.isfinite(rule.low), [True, False, False])
    np.testing.assert_array_equal(np.isfinite(rule.high), [False, False, True])
    assert rule.low[0] == pytest.approx(-1.0, abs=0.01)
    assert rule.high[2] == pytest.approx(1.5, abs=0.01)
    assert metrics["ends"] == falls.terminals.sum() > 100
    assert metrics["recognised"] > 0.95
    assert metrics["false_alarms"] < 0.01
    assert line.startswith("learned: an episode ends where observation 0 < -")
    assert " or observation 2 > 1." in line


def test_what_no_limit_explains_a_network_learns():
    rule, metrics, (line,) = learn(walks(at_goal, episodes=400))
    assert not np.isfinite(rule.low).any()
    assert not np.isfinite(rule.high).any()
    assert "ends where a network says so" in line
    assert metrics["recognised"] > 0.8
    assert metrics["false_alarms"] < 0.01
    states = np.random.default_rng(1).uniform(-1, 2, (5000, 3)).astype(np.float32)
    assert (np.asarray(rule(jnp.asarray(states))) == ~at_goal(states)).mean() > 0.95
    # Of what is inside by a margin, nothing is missed.
    inside = np.square(states[:, :2] - 1.0).sum(-1) < 0.25
    assert not np.asarray(rule(jnp.asarray(states[inside]))).any()


def test_it_is_a_rule_of_a_task(falls):
    """Compiled as a constant, for states of any leading shape; another rule is another program."""
    rule, _, _ = learn(falls)
    ask = jax.jit(lambda states, task: task.alive(states), static_argnames="task")
    states = jnp.asarray([[[0.0, 0.0, 0.0], [-2.0, 0.0, 0.0]], [[0.0, 9.0, 0.0], [0.0, 0.0, 2.0]]])
    own = replace(TASK, alive=rule)
    np.testing.assert_array_equal(ask(states, own), [[True, False], [True, False]])
    assert ask(states, TASK).all()
    further = replace(TASK, alive=replace(rule, high=np.full(3, np.inf, np.float32)))
    np.testing.assert_array_equal(ask(states, further), [[True, False], [True, True]])


def test_what_is_learned_is_always_the_same():
    data = walks(at_goal, episodes=40)
    (one, first, _), (other, second, _) = (learn(data, replace(CONFIG, steps=50)) for _ in range(2))
    assert first == second
    assert (one is None) == (other is None)
    if one is not None:
        jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_ends_that_are_none_of_the_state_are_left_alone(falls):
    followers = np.random.default_rng(2).permutation(falls.next_observations)
    shuffled = falls.replace(next_observations=followers)
    rule, metrics, (line,) = learn(shuffled)
    assert rule is None
    assert metrics["recognised"] < 0.5
    assert "Check that terminals mark what ends a task, not where recording stopped" in line


def test_a_few_ends_teach_nothing(falls):
    terminals = falls.terminals.copy()
    terminals[falls.ends[9:]] = False
    rule, metrics, (line,) = learn(falls.replace(terminals=terminals))
    assert rule is None
    assert metrics == {"ends": int(terminals.sum())}
    assert metrics["ends"] < 10
    assert line.endswith(f"cannot be learned of {metrics['ends']} recorded ends")
