"""What a stage is made of: every field is somebody's input, and no result depends on others'."""

import pytest
from ml_collections import ConfigDict

from tskd_jax.config import default_config, field_names, finalize
from tskd_jax.methods.inputs import IDLE, inputs, same_fields
from tskd_jax.methods.method import variants

STAGES = (
    "dataset",
    "inverse_dynamics",
    "dynamics",
    "expectation",
    "trajectory_generator",
    "reward_generator",
    "imagination",
    "stitching.tskd",
    "stitching.tskd_no_stitching",
    "stitching.tskd_no_imagination",
    "stitching.filter_alone",
    *(f"student.{method}" for method in ("bc", "filtered_bc", "filter_alone")),
    *(f"student.{method}" for method in ("tskd", "tskd_no_imagination")),
    *(f"evaluation.{method}" for method in ("bc", "tskd", "teacher")),
)


def changed(**fields) -> ConfigDict:
    """The defaults with some fields changed, SECTION__FIELD=VALUE."""
    config = default_config()
    for name, value in fields.items():
        section, _, field = name.rpartition("__")
        (config[section] if section else config)[field] = value
    return finalize(config)


def differing(**fields) -> set[str]:
    """The stages that read something else then, or are made of one that does."""
    found = set()
    for stage in STAGES:
        _, before = inputs(stage)
        if found & set(before) or not same_fields(stage, changed(), changed(**fields)):
            found.add(stage)
    return found


def test_every_field_is_an_input_or_idle():
    read = {name for stage in STAGES for name in inputs(stage)[0]}
    for name in field_names():
        section = name.partition(".")[0]
        assert name in read or section in read or name in IDLE or name == "seed_axis", name


def test_stages_come_after_those_they_are_made_of():
    for place, stage in enumerate(STAGES):
        assert set(inputs(stage)[1]) <= set(STAGES[:place]), stage


LEARNT = {stage for stage in STAGES if stage.startswith(("student", "evaluation"))} - {
    "evaluation.teacher"
}
STITCHED = {"stitching.tskd", "stitching.tskd_no_imagination"}
TAUGHT = {"student.tskd", "student.tskd_no_imagination", "evaluation.tskd"}


@pytest.mark.parametrize(
    ("fields", "stages"),
    [
        ({"stitching__radius": 0.3}, STITCHED | TAUGHT),
        ({"value__steps": 7}, STITCHED | TAUGHT),
        ({"filter__margin": 7.0}, TAUGHT | {"student.filter_alone"}),
        ({"student__steps": 7}, LEARNT),
        ({"evaluation__episodes": 7}, {"evaluation.bc", "evaluation.tskd"}),
        ({"label": "other"}, set()),
        ({"seeds": (7,)}, LEARNT),
        ({"seed": 7}, set(STAGES[1:]) - {"expectation"}),
        ({"dataset__drop_invalid": True}, set(STAGES)),
        (
            {"sampling__guidance": 7.0},
            {"imagination", "stitching.tskd", "stitching.tskd_no_stitching"}
            | {"student.tskd", "evaluation.tskd", "evaluation.teacher"},
        ),
    ],
)
def test_what_a_field_changes(fields, stages):
    assert differing(**fields) == stages


def test_the_pipelines_seeds_change_all_but_the_dataset():
    assert differing(seed_axis="pipeline") == set(STAGES[1:]) - {"expectation"}
    one, other = changed(seed_axis="pipeline"), changed(seed_axis="pipeline", seed=7)
    assert all(same_fields(stage, one, other) for stage in STAGES)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["tskd", "tskd_no_stitching", "tskd_no_imagination", "filter_alone"]),
        ({"filter__rule": "share"}, ["tskd", "tskd_no_stitching", "tskd_no_imagination"]),
        ({"stitching__enabled": False}, ["tskd", "filter_alone"]),
        ({"stitching__enabled": False, "imagination__enabled": False}, ["tskd"]),
        ({"evaluation__ablations": False}, ["tskd"]),
    ],
)
def test_the_filter_alone_is_there_where_filtered_bc_is_not_it(fields, names):
    assert [name for name, _, _ in variants(changed(**fields))] == names


def test_the_filter_alone_is_made_of_the_dataset_and_nothing_else():
    assert inputs("stitching.filter_alone")[1] == ("dataset",)
    assert inputs("student.filter_alone")[1] == ("stitching.filter_alone",)
