"""What the referee chooses offline: the filter's share, and whether what is imagined joins."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from methods.traced import TracedRun, trace

from tskd_jax.config import finalize, make_config
from tskd_jax.data.selection import best_episodes
from tskd_jax.methods.parts import choosing
from tskd_jax.models import contest, referee
from tskd_jax.policy import Bounds, Policy
from tskd_jax.training.callbacks import TrainingCallbacks

REFEREE = {"selection.by": "referee"}
NO_ENDS = {"random_return": None, "expert_return": None}  # a score is a return


def paper():
    return finalize(make_config("hopper", "paper,embedded"))[0]


def quick():
    return finalize(make_config("hopper", "quick,embedded"))[0]


def test_the_filter_keeps_the_share_that_the_referee_chooses(tiny_trajectories):
    _, outcome = trace("chosen_bc", paper(), tiny_trajectories, REFEREE)
    least = best_episodes(tiny_trajectories, 0.5, 1000)[1]
    (data,) = outcome.data
    assert data.returns().min() == least
    assert 0.5 * tiny_trajectories.size <= data.size < tiny_trajectories.size


@pytest.mark.parametrize(
    ("changes", "least"),
    [({"filter.rule": "none"}, 1.0), ({"filter.share": 0.5}, 0.5), ({}, 0.1)],
)
def test_where_nothing_is_to_be_chosen_the_filter_is_the_configs(tiny_trajectories, changes, least):
    """`quick` names one share: the referee decides on what is imagined alone."""
    assert len(quick().selection.shares) == 1
    run, outcome = trace("chosen_bc", quick(), tiny_trajectories, changes)
    assert list(run.keys) == ["student.chosen_bc"]
    (data,) = outcome.data
    expected = best_episodes(tiny_trajectories, least, 1000)[1] if least < 1 else None
    assert data.returns().min() == (expected or tiny_trajectories.returns().min())
    run, outcome = trace("chosen_bc", paper(), tiny_trajectories, REFEREE | {"filter.rule": "none"})
    assert outcome.data[0].size == tiny_trajectories.size


def test_whole_students_may_keep_the_configs_own_share(tiny_trajectories, monkeypatch):
    monkeypatch.setattr(TracedRun, "CONFIRMED", 0)
    run, outcome = trace("chosen_bc", paper(), tiny_trajectories, REFEREE)
    _, least = best_episodes(tiny_trajectories, 0.1, 1000)
    assert outcome.data[0].returns().min() == least
    # Its students are those that were asked about.
    assert run.keys["student.chosen_bc"] == run.keys["student.share_0.1"]


def test_a_share_that_is_the_configs_own_needs_no_whole_students(tiny_trajectories):
    run, _ = trace("chosen_bc", paper(), tiny_trajectories, REFEREE | {"filter.share": 0.5})
    assert list(run.keys) == ["world", "best_share", "student.chosen_bc"]


def test_the_share_of_whole_students(monkeypatch, tiny_task):
    """The larger one unless the smaller is better by more than its standard error."""
    monkeypatch.setattr(choosing.referee, "judge_some", lambda _world, own, *_: worth[own[0]])
    config = contest.Config()
    world = {"any": np.zeros(1)}
    for small, chosen in ((50.0, 1), (50.4, 1), (53.0, 0)):
        returns = np.array([[small - 1], [small + 1]])  # a standard error of 1
        none = np.zeros(returns.shape)
        worth = {
            name: referee.Verdict(each, none + 1, none, none > 0)
            for name, each in {"few": returns, "many": none + 50}.items()
        }
        number, (means,) = choosing.confirmed_share(
            *(config, {"0.02": ["few"], "0.1": ["many"]}, world, replace(tiny_task, **NO_ENDS)),
            *(np.zeros((1, 3)),),
            keys=jax.random.key(0)[None],
            callbacks=TrainingCallbacks(),
        )
        assert number == chosen
        assert means == {"0.02": small, "0.1": 50.0}


def test_a_choice_tells_what_decided(monkeypatch, tiny_task):
    """The first's episodes that left what the world knows count as the same student's others."""
    first = np.array([[70.0, 30.0], [72.0, 30.0]])  # the second episode of each has left
    other, none = np.array([[62.0, 63.0], [61.0, 61.2]]), np.zeros((2, 2))
    worth = {
        "recorded": referee.Verdict(first, none + 1, none, np.array([[False, True]] * 2)),
        "imagined": referee.Verdict(other, none + 1, none, none > 0),
    }
    students = {
        name: [Policy((np.zeros((3, 2)),), (np.zeros(2),), Bounds.symmetric(bound, 2))]
        for bound, name in enumerate(worth, 1)
    }
    judged = {own[0].bounds: worth[name] for name, own in students.items()}
    monkeypatch.setattr(choosing.referee, "judge_some", lambda _, own, *__: judged[own[0].bounds])
    chosen, (means,) = choosing.best_data(
        *(contest.Config(), students, {"any": np.zeros(1)}),
        *(replace(tiny_task, **NO_ENDS), np.zeros((1, 3))),
        keys=jax.random.key(0)[None],
        callbacks=TrainingCallbacks(),
    )
    assert chosen == [0]
    worst = {"recorded: worst tenth": 70, "imagined: worst tenth": 61}
    assert means == pytest.approx({"recorded": 71, "imagined": 61.8, **worst, "chosen": 0})


def test_the_referee_may_leave_out_what_is_imagined(tiny_trajectories, monkeypatch):
    """Where it chooses the first, TSKD has the student of its filter alone."""
    changes = REFEREE | {"stitching.enabled": False, "imagination.world": "mean"}
    monkeypatch.setattr(TracedRun, "CHOSEN", 0)
    left, alone = (
        trace(name, paper(), tiny_trajectories, changes)[0] for name in ("tskd", "chosen_bc")
    )
    assert left.keys["student.tskd"] == alone.keys["student.chosen_bc"]
