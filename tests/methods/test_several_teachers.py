"""Methods with several teachers: which stages there are, and what differs between them."""

import numpy as np
import pytest
from methods.traced import trace

from tskd_jax.config import finalize, make_config


def make(preset):
    return finalize(make_config("hopper", f"{preset},embedded"))[0]


@pytest.mark.parametrize("name", ["tskd", "tskd_one_step"])
def test_several_teachers_differ_in_their_seeds_and_share_the_work(tiny_trajectories, name):
    several = {"teachers.count": 3, "aggregation.rounds": 1, "imagination.world": "mean"}
    run, outcome = trace(name, make("paper"), tiny_trajectories, several)
    one, _ = trace(name, make("paper"), tiny_trajectories, several | {"teachers.count": 1})
    assert len(outcome.teachers) == 3
    for stage in ("trajectory_generator", "imagination", f"aggregation.{name}.0"):
        keys = {run.keys[f"{stage}{which}"] for which in ("", ".2", ".3")}
        assert len(keys) == 3
    # The first teacher is the one that there would be alone, and what all use is made once.
    for stage in ("trajectory_generator", "inverse_dynamics", "world"):
        assert run.keys[stage] == one.keys[stage]
    imagined = outcome.imagined[0]
    assert imagined.size == 3 * tiny_trajectories.size  # what `trace` has each imagine
    assert len(np.unique(imagined.actions[:: tiny_trajectories.size])) == 3


def test_a_bootstrap_is_what_the_first_teacher_is_not_trained_on(tiny_trajectories):
    several = {"teachers.count": 2}
    whole, _ = trace("tskd", make("paper"), tiny_trajectories, several)
    drawn, _ = trace(
        "tskd", make("paper"), tiny_trajectories, several | {"teachers.bootstrap": True}
    )
    differ = {name for name in whole.keys if whole.keys[name] != drawn.keys[name]}
    assert {"trajectory_generator.2", "imagination.2", "accept"} <= differ
    assert not differ & {"trajectory_generator", "imagination", "inverse_dynamics"}


def test_one_step_with_several_teachers(tiny_trajectories):
    changes = {"teachers.count": 2, "teachers.bootstrap": True, "aggregation.rounds": 1}
    run, outcome = trace("tskd_one_step", make("quick"), tiny_trajectories, changes)
    stages = list(run.keys)
    first = stages.index("imagination")
    assert stages[first - 2 : first + 2] == [
        *("trajectory_generator", "trajectory_generator.2", "imagination", "imagination.2")
    ]
    first = stages.index("aggregation.tskd_one_step.0")
    assert stages[first + 1] == "aggregation.tskd_one_step.0.2"
    assert len(outcome.teachers) == 2
