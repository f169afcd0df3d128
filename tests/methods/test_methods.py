"""What each method is made of: stages, in what order, and what a field of the config changes."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from methods.traced import trace

from tskd_jax.config import finalize, make_config
from tskd_jax.data.trajectories import IMAGINED, RECORDED
from tskd_jax.methods import METHODS, tskd, tskd_one_step
from tskd_jax.methods.base import stage_keys

TEACHER = ["inverse_dynamics", "trajectory_generator"]
PRICING = ["dynamics", "reward_generator"]
PARTS = [*TEACHER, *PRICING]
REFEREE = {"selection.by": "referee"}
ALONE = {"imagination.enabled": False}


def chosen(name):
    """The stages in which the referee compares two choices of data."""
    return f"student.{name}.choice_0", f"student.{name}.choice_1", f"choice.{name}"


SHARE = ("best_share", "student.share_0.1", "student.share_0.5", "confirmed_share")


def paper():
    return finalize(make_config("hopper", "paper,embedded"))[0]


def quick():
    return finalize(make_config("hopper", "quick,embedded"))[0]


@pytest.mark.parametrize(
    ("name", "config", "changes", "stages"),
    [
        ("bc", paper(), {}, ["student.bc"]),
        ("filtered_bc", paper(), {}, ["student.filtered_bc"]),
        ("best_episode_bc", paper(), {}, ["student.best_episode_bc"]),
        ("chosen_bc", paper(), {}, ["student.chosen_bc"]),
        ("decision_transformer", paper(), {}, ["student.decision_transformer"]),
        ("trajectory_transformer", paper(), {}, ["student.trajectory_transformer"]),
        ("chosen_bc", paper(), REFEREE, ["world", *SHARE, "student.chosen_bc"]),
        (
            "tskd",
            paper(),
            REFEREE | {"stitching.enabled": False, "imagination.world": "mean"},
            [
                *("world", *SHARE, *TEACHER, "imagination", "accept"),
                *(*chosen("tskd"), "student.tskd"),
            ],
        ),
        (
            "tskd_one_step",
            paper(),
            REFEREE | {"imagination.world": "mean", "aggregation.rounds": 2},
            [
                *("world", *SHARE, *TEACHER, "imagination", "accept"),
                *chosen("tskd_one_step"),
                *("student.tskd_one_step", "aggregation.tskd_one_step.0"),
                *chosen("tskd_one_step.0"),
                *("student.tskd_one_step.0", "aggregation.tskd_one_step.1"),
                *(*chosen("tskd_one_step.1"), "student.tskd_one_step.1"),
            ],
        ),
        (
            "tskd",
            paper(),
            {},
            [
                *(*TEACHER, "imagination", "accept", *PRICING),
                *("value.tskd.0", "stitching.tskd.0", "value.tskd.1", "stitching.tskd.1"),
                "student.tskd",
            ],
        ),
        (
            "tskd",
            paper(),
            {"stitching.enabled": False},
            [*TEACHER, "imagination", "accept", "student.tskd"],
        ),
        (
            "tskd",
            paper(),
            {"imagination.enabled": False, "stitching.epochs": 1},
            ["inverse_dynamics", *PRICING, "value.tskd.0", "stitching.tskd.0", "student.tskd"],
        ),
        (
            "tskd_one_step",
            quick(),
            {},
            [
                *("inverse_dynamics", "world", "baseline", "trajectory_generator"),
                *("imagination", "accept", *chosen("tskd_one_step"), "student.tskd_one_step"),
            ],
        ),
        # The ensemble only where it decides what is accepted, or stitches.
        (
            "tskd_one_step",
            quick(),
            {"imagination.min_likelihood_quantile": 0.1},
            [
                *("inverse_dynamics", "world", "baseline", "trajectory_generator"),
                *("imagination", "dynamics", "accept", *chosen("tskd_one_step")),
                "student.tskd_one_step",
            ],
        ),
        ("tskd_one_step", quick(), ALONE, ["student.tskd_one_step"]),
    ],
)
def test_the_stages_of_a_method(tiny_trajectories, name, config, changes, stages):
    run, _ = trace(name, config, tiny_trajectories, changes)
    assert list(run.keys) == stages


# What is made of the teacher and after it.
TAUGHT = {"imagination", "accept", "value.tskd.0", "stitching.tskd.0", "value.tskd.1"}
TAUGHT |= {"stitching.tskd.1", "student.tskd"}
LATER = {"value.tskd.1", "stitching.tskd.1", "student.tskd"}


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"stitching.radius": 0.3}, {"stitching.tskd.0"} | LATER),
        ({"value.steps": 7}, {"value.tskd.0", "stitching.tskd.0"} | LATER),
        ({"filter.margin": 3.0}, {"student.tskd"}),
        ({"filter.margin": 0.11}, set()),  # another margin, the same episodes,
        ({"student.steps": 7}, {"student.tskd"}),
        ({"seeds": (7,)}, {"student.tskd"}),
        ({"evaluation.episodes": 7}, set()),
        ({"ablations": False}, set()),
        ({"sampling.guidance": 7.0}, TAUGHT),
        ({"reward_sampling.guidance": 7.0}, {"reward_generator", "stitching.tskd.0"} | LATER),
        ({"trajectory_generator.steps": 7}, {"trajectory_generator"} | TAUGHT),
        ({"seed": 7}, {*PARTS} | TAUGHT),
        ({"seed_axis": "pipeline"}, {*PARTS} | TAUGHT),
    ],
)
def test_what_a_field_changes(tiny_trajectories, changes, stages):
    config = paper()
    before, _ = trace("tskd", config, tiny_trajectories, {"filter.margin": 0.1})
    after, _ = trace("tskd", config, tiny_trajectories, {"filter.margin": 0.1} | changes)
    assert {name for name in before.keys if before.keys[name] != after.keys[name]} == stages


def test_with_the_whole_pipeline_per_seed_the_first_seed_counts_for_nothing(tiny_trajectories):
    one, other = (
        trace("tskd", paper(), tiny_trajectories, {"seed_axis": "pipeline", "seed": seed})[0].keys
        for seed in (0, 7)
    )
    assert one == other


def test_methods_share_what_they_are_made_of(tiny_trajectories):
    whole, _ = trace("tskd", quick(), tiny_trajectories)
    step, _ = trace("tskd_one_step", quick(), tiny_trajectories)
    for name in (*TEACHER, "baseline", "world"):
        assert whole.keys[name] == step.keys[name]
    assert whole.keys["imagination"] != step.keys["imagination"]


def test_the_best_episode_is_a_whole_one(tiny_trajectories):
    # Every third episode ends by itself; the others, short of hopper's limit, are fragments.
    rewards = np.where(tiny_trajectories.episode_of % 3 == 0, 0.0, 9.0).astype(np.float32)
    rewards[tiny_trajectories.starts[6]] = 1.0
    recorded = tiny_trajectories.replace(rewards=rewards)
    _, outcome = trace("best_episode_bc", paper(), recorded)
    (data,) = outcome.data
    np.testing.assert_array_equal(data.observations, recorded.select(np.array([6])).observations)


def test_an_advantage_is_over_an_expectation_with_the_same_penalty(tiny_trajectories):
    penalty = {"trajectory_generator.termination_penalty": 100.0}
    plain, _ = trace("tskd_one_step", quick(), tiny_trajectories)
    penalized, _ = trace("tskd_one_step", quick(), tiny_trajectories, penalty)
    assert plain.keys["baseline"] != penalized.keys["baseline"]
    by_return = penalty | {"trajectory_generator.condition": "return"}
    unused, _ = trace("tskd_one_step", quick(), tiny_trajectories, by_return)
    assert plain.keys["baseline"] == unused.keys["baseline"]


def test_identical_data_trains_one_student(tiny_trajectories):
    # A filter that keeps everything, and nothing added: BC by three names.
    off = ALONE | {"stitching.enabled": False, "filter.rule": "none"}
    runs = [trace(name, paper(), tiny_trajectories, off)[0] for name in ("bc", "tskd")]
    assert runs[0].keys["student.bc"] == runs[1].keys["student.tskd"]


def test_whole_trajectories_are_stitched_and_filtered_and_steps_are_not(tiny_trajectories):
    _, whole = trace("tskd", paper(), tiny_trajectories, {"stitching.enabled": False})
    # All of both epochs, before a filter by a margin of 500 that keeps everything.
    sources = whole.data[0].source
    assert (sources == IMAGINED).sum() == (sources == RECORDED).sum() == tiny_trajectories.size
    _, step = trace("tskd_one_step", quick(), tiny_trajectories)
    sources = step.data[0].source
    assert set(np.unique(sources)) == {RECORDED, IMAGINED}
    # Behind the filter: all that was imagined is there, whatever the filter keeps.
    assert (sources == IMAGINED).sum() == tiny_trajectories.size


def test_randomness_is_by_the_name_of_its_use_and_by_seed():
    names, seeds = ("value", "dynamics"), (0, 1, 5)
    keys = {str(key) for name in names for key in stage_keys(name, seeds)}
    assert len(keys) == 6
    assert str(stage_keys("value", (5,))[0]) == str(stage_keys("value", seeds)[2])


def test_the_registry_has_a_file_for_each_method_and_the_files_are_short():
    folder = Path(inspect.getfile(tskd)).parent
    shared = {"__init__", "base", "parts", "checks"}
    assert {path.stem for path in folder.glob("*.py")} - shared == set(METHODS)
    # A page each: whoever has read the paper reads them without scrolling.
    for module, most in ((tskd, 120), (tskd_one_step, 80)):
        assert len(inspect.getsource(module).splitlines()) <= most
