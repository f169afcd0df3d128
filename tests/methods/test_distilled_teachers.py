"""DDR-I distilled into few calls, as part of a method: which stages change, and a whole run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from methods.traced import trace
from tiny import TINY_FLAGS

from tskd_jax.config import finalize, make_config, override
from tskd_jax.main import main

CALLS = {"few_steps.calls": 2}


def quick():
    return finalize(make_config("hopper", "quick,embedded"))[0]


def traced(name, recorded, changes):
    run, _ = trace(name, quick(), recorded, changes)
    return run


@pytest.mark.parametrize("name", ["tskd", "tskd_one_step"])
def test_it_stands_between_ddr1_and_what_imagines(tiny_trajectories, name):
    # The referee has no students of a whole method at hand, and stitching is beside the point.
    changes = {"stitching.enabled": False, "teachers.count": 2, "aggregation.rounds": 1}
    off, on = (traced(name, tiny_trajectories, changes | more) for more in ({}, CALLS))
    added = [stage for stage in on.keys if stage not in off.keys]
    assert added == ["few_steps", "few_steps.2"]
    stages = list(on.keys)
    for which in ("", ".2"):
        ddr1 = stages.index(f"trajectory_generator{which}")
        assert stages[ddr1 + 1] == f"few_steps{which}"
    changed = {stage for stage in off.keys if off.keys[stage] != on.keys[stage]}
    assert {"imagination", "imagination.2", f"aggregation.{name}.0"} <= changed
    for stage in ("inverse_dynamics", "trajectory_generator", "trajectory_generator.2", "world"):
        assert off.keys[stage] == on.keys[stage]
    own = quick().sampling
    assert off.configs[f"aggregation.{name}.0"][2] == own
    few = replace(own, sampler="ddim", steps=2, eta=0.0, guidance=1.0)
    assert on.configs[f"aggregation.{name}.0"][2] == few


def test_off_its_fields_are_of_no_account(tiny_trajectories):
    for changes in ({"few_steps.windows": 7}, {"few_steps.steps": 7}):
        before, after = (traced("tskd_one_step", tiny_trajectories, c) for c in ({}, changes))
        assert before.keys == after.keys


def test_how_much_of_a_plan_is_taken_needs_no_other_distillation(tiny_trajectories):
    long = {"trajectory_generator.horizon": 8}
    once, thrice = (
        traced("tskd", tiny_trajectories, CALLS | long | {"sampling.replan_every": every})
        for every in (1, 3)
    )
    assert once.keys["few_steps"] == thrice.keys["few_steps"]
    assert once.keys["imagination"] != thrice.keys["imagination"]


def test_each_teacher_is_distilled_at_its_own_target(tiny_trajectories):
    changes = CALLS | {"teachers.count": 2, "teachers.target_factors": (1.0, 0.5)}
    run = traced("tskd", tiny_trajectories, changes)
    targets = [run.configs[f"few_steps{which}"] for which in ("", ".2")]
    assert targets[0] == targets[1]  # the fields; what differs is DDR-I, its target and its seed
    config = override(quick(), changes)
    assert [config.teacher_sampling(index).target_return for index in (0, 1)] == [1.0, 0.5]
    assert run.keys["few_steps"] != run.keys["few_steps.2"]


@pytest.mark.slow
def test_a_run_of_both_methods_ends_well(dataset, tmp_path):
    config = Path(__file__).parents[2] / "configs/hopper.py"
    flags = (
        *(f"--config={config}", f"--config.dataset.path={dataset}", f"--workdir={tmp_path}/run"),
        *(*TINY_FLAGS, "--config.methods=tskd,tskd_one_step", "--config.ablations=False"),
        *("--config.few_steps.calls=1", "--config.few_steps.windows=64"),
        *("--config.sampling.replan_every=1", "--config.tskd_one_step.states=6"),
        *("--config.imagination.trajectories=1", "--config.stitching.enabled=False"),
        "--config.evaluation.teacher_episodes=1",
    )
    assert main(["tskd-jax", *flags]) == 0
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    stages = {record["name"]: record for record in manifest["stages"].values()}
    assert stages["few_steps"]["metrics"]["held_out_mse"] >= 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert {"tskd", "tskd_one_step"} <= set(summary["scores"])
    assert any(name.startswith("evaluation.teacher") for name in stages)
