"""Methods with several teachers: which stages there are, and what differs between them."""

from typing import Any

import numpy as np
import pytest
from flax import struct
from methods.traced import trace

from tskd_jax.config import finalize, make_config
from tskd_jax.data.trajectories import from_columns
from tskd_jax.envs.entries import get_task
from tskd_jax.errors import ConfigError
from tskd_jax.methods.parts import teachers
from tskd_jax.training.callbacks import TrainingCallbacks


@struct.dataclass
class Fake:
    """A planner that is nothing but its parameters and its unit of return."""

    params: Any
    return_scale: np.ndarray


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


@pytest.mark.parametrize("name", ["tskd", "tskd_one_step"])
def test_of_several_teachers_only_the_best_imagines(tiny_trajectories, name):
    best = {"teachers.count": 3, "teachers.keep": "best", "aggregation.rounds": 1}
    best |= {"imagination.world": "mean"}
    run, outcome = trace(name, make("paper"), tiny_trajectories, best)
    assert len(outcome.teachers) == 1
    stages = list(run.keys)
    first = stages.index("trial")
    assert stages[first : first + 4] == ["trial", "trial.2", "trial.3", "best_teacher"]
    assert len({run.keys[one] for one in stages[first : first + 3]}) == 3
    assert [one for one in stages if one.startswith(("imagination", "aggregation"))] == [
        *("imagination", f"aggregation.{name}.0")
    ]
    one, _ = trace(name, make("paper"), tiny_trajectories, best | {"teachers.count": 1})
    assert "trial" not in one.keys
    everything = best | {"teachers.keep": "all"}
    other, _ = trace(name, make("paper"), tiny_trajectories, everything)
    assert run.keys["imagination"] != other.keys["imagination"]


def test_one_world_imagines_and_another_judges(tiny_trajectories):
    changes = {"teachers.count": 2, "teachers.keep": "best", "selection.by": "referee"}
    changes |= {"imagination.world": "mean"}

    def traced(name, noise, **more):
        every = changes | {"world.noise": noise} | more
        return trace(name, make("paper"), tiny_trajectories, every)

    (one, same), (two, outcome) = traced("tskd", 0.0), traced("tskd", 0.1)
    assert "imagination_world" not in one.keys
    assert two.configs["imagination_world"].noise == 0.1
    assert two.configs["world"].noise == 0.0
    # Other weights, too: errors that a teacher meets are not those that its judge shares.
    assert two.keys["imagination_world"] != two.keys["world"] == one.keys["world"]
    assert outcome.teachers[0].world == f"the world of {two.keys['imagination_world']}"
    assert same.teachers[0].world == f"the world of {one.keys['world']}"
    for judged in ("best_share", "trial", "trial.2", "best_teacher"):
        assert two.keys[judged] == one.keys[judged]
    assert two.keys["imagination"] != one.keys["imagination"]
    # In a single step no error can add up.
    for steps, worlds in ((1, 1), (2, 2)):
        run, _ = traced("tskd_one_step", 0.1, **{"tskd_one_step.max_steps": steps})
        assert len({name for name in run.keys if name.endswith("world")}) == worlds


def test_teachers_are_tried_without_noise(tiny_trajectories):
    changes = {"teachers.count": 2, "teachers.keep": "best", "imagination.world": "mean"}

    def traced(noise):
        every = changes | {"imagination.action_noise": noise}
        return trace("tskd", make("paper"), tiny_trajectories, every)

    (calm, _), (noisy, _) = traced(0.0), traced(0.1)
    for trial in ("trial", "trial.2", "best_teacher"):
        assert calm.keys[trial] == noisy.keys[trial]
    assert calm.configs["trial"].action_noise == noisy.configs["trial"].action_noise == 0
    assert noisy.configs["imagination"].action_noise == 0.1
    assert calm.keys["imagination"] != noisy.keys["imagination"]


def trial_of(returns, lengths, heights, ended):
    """Hopper's imagined episodes that end at these heights; every step but the last gets 0."""
    size, ends = sum(lengths), np.cumsum(lengths) - 1
    states = np.zeros((size, 11), np.float32)
    states[:, 0] = 1.2
    following, rewards, terminals = states.copy(), np.zeros(size), np.zeros(size, bool)
    following[ends, 0], rewards[ends], terminals[ends] = heights, returns, ended
    actions = np.zeros((size, 3))
    return from_columns(
        observations=states,
        actions=actions,
        rewards=rewards,
        next_observations=following,
        terminals=terminals,
        lengths=np.array(lengths),
    )


def test_each_seed_has_its_own_best_teacher():
    task, lines = get_task("hopper"), []
    poor, good = (trial_of([value], [1000], [1.2], [False]) for value in (100.0, 900.0))
    callbacks = TrainingCallbacks(report=lines.append)
    # With teachers.bootstrap each has normalisers of its own, too.
    planners = [
        Fake({"w": np.array([[1.0], [2.0]]) * k}, np.array([3.0, 4.0]) * k) for k in (1, -1)
    ]
    chosen, metrics = teachers.best_teacher(
        task, [[good, poor], [poor, good]], planners, callbacks=callbacks
    )
    np.testing.assert_array_equal(chosen.params["w"], [[1.0], [-2.0]])
    np.testing.assert_array_equal(chosen.return_scale, [3.0, -4.0])
    scores = [float(task.normalized_score(value)) for value in (900.0, 100.0)]
    assert [list(one.values()) for one in metrics] == [
        pytest.approx(scores),
        pytest.approx(scores[::-1]),
    ]
    assert "teacher 1 (" in lines[0]
    assert "teacher 2 (" in lines[1]


def scores_of(*trials):
    """What the trials of several teachers are worth, of one seed."""
    planners, task = [Fake({"w": np.zeros((1, 1))}, np.ones(1))] * len(trials), get_task("hopper")
    each = [[one] for one in trials]
    return teachers.best_teacher(task, each, planners, callbacks=TrainingCallbacks())[1][0]


def test_to_leave_the_known_world_is_no_way_to_save_costs():
    task = get_task("hopper")
    # Both lose one a step on average; the first leaves the world after half of the time.
    leaves = trial_of([-500.0], [500], [1.2], [False])
    stays = trial_of([-900.0], [1000], [1.2], [False])
    means = scores_of(leaves, stays)
    assert means["teacher 1"] == pytest.approx(float(task.normalized_score(-1000.0)))
    assert means["teacher 2"] == pytest.approx(float(task.normalized_score(-900.0)))
    # A fall ends an episode by the rule, and costs nothing more.
    falls = trial_of([-500.0], [500], [0.1], [True])
    means = scores_of(falls, stays)
    assert means["teacher 1"] == pytest.approx(float(task.normalized_score(-500.0)))


def test_what_cannot_choose_a_teacher_is_refused():
    config = make_config("hopper", "paper,embedded")
    config.teachers.count, config.teachers.keep = 3, "best"
    with pytest.raises(ConfigError, match=r"a world for config\.teachers\.keep"):
        finalize(config)
    config.imagination.world = "mean"
    finalize(config)
    config.teachers.target_factors = (1.0, 1.1, 1.2)
    with pytest.raises(ConfigError, match="choose one factor, or keep='all'"):
        finalize(config)


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
