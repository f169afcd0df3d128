"""The trial of changes to DDR-I: what it varies, and the script at a tiny scale."""

import csv

import pytest
from tiny import TINY_FLAGS, run_script

from experiments.studies.variants import variants
from tskd_jax.config import make_config
from tskd_jax.errors import ConfigError

pytestmark = pytest.mark.slow


@pytest.fixture
def vary():
    """`--vary` arguments -> what becomes of them."""
    config = make_config("hopper", "quick")
    return lambda *arguments: [
        (name, final)
        for name, (final, _) in variants(config, arguments, ("trajectory_generator", "sampling"))
    ]


def test_one_field_differs_and_the_configured_value_is_not_repeated(vary):
    found = vary("trajectory_generator.prediction=noise,velocity", "sampling.target_return=0.5,1")
    assert [name for name, _ in found] == [
        "as configured",
        "trajectory_generator.prediction=noise",
        "sampling.target_return=0.5",
    ]
    base = found[0][1]
    assert base.trajectory_generator.prediction == "velocity"
    assert found[1][1].trajectory_generator.prediction == "noise"
    assert found[1][1].sampling == base.sampling
    assert found[2][1].sampling.target_return == 0.5
    assert found[2][1].trajectory_generator == base.trajectory_generator


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("student.steps=3", "trajectory_generator or sampling"),
        ("sampling.tarhet_return=3", "sampling.target_return"),
        ("sampling.target_return=high", "no float"),
        ("trajectory_generator.multipliers=1", "cannot be varied"),
        ("trajectory_generator.prediction=score", "noise | signal | velocity"),
    ],
)
def test_what_cannot_be_varied_is_refused(vary, argument, problem):
    with pytest.raises(ConfigError, match=problem.replace("|", r"\|")):
        vary(argument)


def test_it_measures_a_teacher(dataset, tmp_path):
    run_script(
        "studies.teacher_trial",
        "--config=configs/hopper.py:quick",
        *TINY_FLAGS,
        f"--config.dataset.path={dataset}",
        "--config.imagination.world=random_member",
        f"--workdir={tmp_path / 'run'}",
        *("--episodes=2", "--trajectories=2", "--states=10", "--students"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["variant"] == "as configured"
    assert 0 < float(row["one_step"]) < 1e6
    assert 0 < float(row["of_recorded"]) < 1e6
    assert 1 <= float(row["imagined_steps"]) <= 1000
    assert 1 <= float(row["grounded_steps"]) <= 1000
    assert -10 < float(row["grounded"]) < 200
    assert 0 <= float(row["grounded_left"]) <= 1
    assert 0 < float(row["grounded_error"]) < 1e6
    assert float(row["student_stderr"]) >= 0
    assert 0 < float(row["student_error"]) < 1e6
    assert 0 < float(row["training_seconds"]) < float(row["seconds"])
