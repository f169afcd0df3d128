"""What each stage is made of: the fields of the config that it reads, and the stages before it.

Two runs in which these are the same have the same result: `Run.adopt` takes it over.
"""

from collections.abc import Sequence
from typing import Any

from tskd_jax.machine.types import Config
from tskd_jax.training.seeds import pipeline_seeds

# Of these no result depends.
IDLE = ("label", "steps_multiplier", "checkpoint_seconds", "distributed", "evaluation.ablations")
# A dataset's result is its size: whatever is made of it asks for the same dataset by these.
DATASET = ("environment", "dataset")
# SEED stands for `seeds.pipeline_seeds`, STUDENTS for the students' seeds.
SEED, STUDENTS = "seed", "seeds"
# The filter, where training dwells on what it keeps, and where imagination starts there.
FOCUS, STARTS = "trajectory_generator.focus", "imagination.starts"
_TEACHER = ("inverse_dynamics", "dynamics", "reward_generator")
_NOTHING_IMAGINED = ("tskd_no_imagination", "filter_alone")
_STITCHING = (SEED, "value", "stitching", "reward_sampling", "imagination.enabled")
# Stage -> (fields and sections, stages before it); those of variants are in `inputs`.
_INPUTS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "dataset": ((), ()),
    "inverse_dynamics": ((SEED, "inverse_dynamics"), ("dataset",)),
    "dynamics": ((SEED, "dynamics"), ("dataset",)),
    "expectation": (("expectation", "trajectory_generator.discount"), ("dataset",)),
    "trajectory_generator": (
        (SEED, "trajectory_generator", FOCUS),
        ("dataset", "expectation"),
    ),
    # How it samples enters the error that it is judged by.
    "reward_generator": ((SEED, "reward_generator", "reward_sampling"), ("dataset",)),
    "imagination": (
        (
            *(SEED, "imagination", STARTS, "sampling"),
            *("stitching.epochs", "evaluation.simulator_check"),
        ),
        ("inverse_dynamics", "dynamics", "trajectory_generator"),
    ),
    "stitching.tskd": (_STITCHING, (*_TEACHER, "imagination")),
    "stitching.tskd_no_imagination": (_STITCHING, _TEACHER),
    "stitching.tskd_no_stitching": ((SEED, "stitching.epochs"), ("imagination",)),
    "stitching.filter_alone": ((SEED,), ("dataset",)),
    "student.bc": ((SEED, STUDENTS, "student"), ("dataset",)),
    "student.filtered_bc": ((SEED, STUDENTS, "student", "filter.share"), ("dataset",)),
    "evaluation.teacher": (
        (SEED, "sampling", "evaluation.teacher_episodes"),
        ("inverse_dynamics", "trajectory_generator"),
    ),
}


def inputs(stage: str) -> tuple[Sequence[str], Sequence[str]]:
    """(fields and sections of the config, stages) that a stage's result and figures depend on."""
    group, _, method = stage.partition(".")
    if stage in _INPUTS:
        fields, before = _INPUTS[stage]
    elif group == "student":
        fields, before = (SEED, STUDENTS, "student", "filter"), (f"stitching.{method}",)
        # Branches are added behind the filter (`imagination.starts`).
        before += () if method in _NOTHING_IMAGINED else ("imagination",)
    else:
        fields, before = (SEED, STUDENTS, "evaluation.episodes"), (f"student.{method}",)
    return (*DATASET, *fields), before


def same_fields(stage: str, left: Config, right: Config) -> bool:
    """Whether a stage reads the same of two configs."""
    return all(_value(left, name) == _value(right, name) for name in inputs(stage)[0])


def _value(config: Config, name: str) -> Any:
    if name == SEED:
        return pipeline_seeds(config)
    if name == FOCUS:
        return config.filter if config.trajectory_generator.focus else None
    if name == STARTS:
        return config.filter if config.imagination.starts == "kept" else None
    section, _, field = name.partition(".")
    return config[section][field] if field else config[section]
