"""Stages that judge students."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tskd_jax.evaluation import stages
from tskd_jax.models.referee import Verdict
from tskd_jax.policy import Bounds, Policy
from tskd_jax.training.callbacks import TrainingCallbacks


@pytest.mark.parametrize(("rate", "returns"), [(0.0, [-9.0, -30.0]), (-0.5, [-49.0, -30.0])])
def test_where_steps_cost_reward_none_gains_by_leaving(monkeypatch, tiny_task, rate, returns):
    task = replace(tiny_task, random_return=None, expert_return=None, episode_limit=100)
    verdict = Verdict(
        returns=np.array([[-9.0, -30.0]]),
        lengths=np.array([[20, 60]]),
        disagreement=np.zeros((1, 2)),
        left=np.array([[True, False]]),  # the second one fell
    )
    monkeypatch.setattr(stages.referee, "judge_some", lambda *_: verdict)
    policy = Policy((np.zeros((3, 2)),), (np.zeros(2),), Bounds.symmetric(1.0, 2))
    (found, left), (metrics,) = stages.judge(
        *(2, {"any": np.zeros(1)}, [policy], task, np.zeros((1, 3)), rate),
        keys=jax.random.key(0)[None],
        callbacks=TrainingCallbacks(),
    )
    assert found.tolist() == [returns]
    assert left.tolist() == [[True, False]]
    assert metrics["score"] == np.mean(returns)
