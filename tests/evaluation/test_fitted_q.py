"""Fitted Q evaluation on a chain in which everything is known."""

import jax
import numpy as np
import pytest

from tskd_jax.data.trajectories import from_columns
from tskd_jax.evaluation.fitted_q import MOST_STARTS, Config, fitted_q
from tskd_jax.policy import Bounds, Policy

KEYS = jax.random.split(jax.random.key(0), 1)
CONFIG = Config(steps=3000, batch_size=64, hidden=(32,), discount=0.9, target_average=0.05)


def always(action: float) -> Policy:
    """A student that does the same everywhere."""
    bias = np.full(1, np.arctanh(np.clip(action, -0.999, 0.999)), np.float32)
    return Policy((np.zeros((1, 1), np.float32),), (bias,), Bounds.symmetric(1.0, 1))


def chain(terminal: bool, length: int = 3, episodes: int = 200):
    """States 0, 1, 2 …; any action leads on, and the reward is the action."""
    rng = np.random.default_rng(0)
    states = np.tile(np.arange(length, dtype=np.float32), episodes)[:, None]
    actions = rng.uniform(-1, 1, (len(states), 1))
    ends = np.zeros(len(states), bool)
    ends[length - 1 :: length] = terminal
    return from_columns(
        observations=states,
        actions=actions,
        rewards=actions[:, 0],
        # A chain that is cut goes round.
        next_observations=states + 1 if terminal else (states + 1) % length,
        terminals=ends,
        lengths=[length] * episodes,
    )


def test_values_of_a_chain_that_ends():
    values, metrics = fitted_q(CONFIG, chain(True), [always(0.5), always(-0.5)], keys=KEYS)
    assert values.shape == (2, 200)
    # 0.5 · (1 + γ + γ²) = 1.355
    np.testing.assert_allclose(values.mean(1), [1.355, -1.355], atol=0.06)
    assert metrics[0]["value"] == pytest.approx(0, abs=0.05)


def test_a_cut_is_bootstrapped_through():
    values, _ = fitted_q(CONFIG, chain(False), [always(0.5)], keys=KEYS)
    # 0.5 / (1 - γ) = 5
    np.testing.assert_allclose(values.mean(1), [5.0], atol=0.3)


def test_students_of_several_pipeline_seeds():
    """One student each; together as alone but for rounding."""
    keys = jax.random.split(jax.random.key(1), 2)
    students = [always(0.5), always(-0.5)]
    few = Config(steps=50, batch_size=16, hidden=(8,))
    together, metrics = fitted_q(few, chain(True), students, keys=keys)
    assert len(metrics) == 2
    alone = [fitted_q(few, chain(True), [students[i]], keys=keys[i : i + 1])[0] for i in range(2)]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4, atol=1e-5)


def test_many_starts_are_thinned():
    few = Config(steps=2, batch_size=4, hidden=(4,))
    values, _ = fitted_q(few, chain(True, 1, MOST_STARTS + 500), [always(0.0)], keys=KEYS)
    assert values.shape == (1, MOST_STARTS)
