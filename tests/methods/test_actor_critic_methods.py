"""The offline actor-critics as methods: a run of all, whose last student is deployed."""

import json

import pytest
from tiny import TINY_FLAGS

from tskd_jax.main import main
from tskd_jax.policy import load_policy

pytestmark = pytest.mark.slow

METHODS = ("iql", "td3_bc", "rebrac", "cql")
PARAMETERS = {"iql": 69_635, "td3_bc": 69_635, "rebrac": 135_427, "cql": 69_635}


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "whole"
    argv = ["tskd-jax", "run", "--config=hopper", *TINY_FLAGS, f"--workdir={workdir}"]
    argv += [f"--config.dataset.path={dataset}", f"--config.methods=bc,{','.join(METHODS)}"]
    assert main(argv) == 0
    return workdir


def test_students_of_all(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["scores"]) == ["bc", *METHODS]
    for method, parameters in PARAMETERS.items():
        assert summary["methods"][method]["parameters"] == parameters
        for seed in (0, 1):
            policy = load_policy(finished / "students" / method / f"seed_{seed}.npz")
            assert policy.parameters == parameters
    # Deviations and critics are left behind.
    assert load_policy(finished / "student.npz").parameters == PARAMETERS["cql"]


def test_the_same_command_has_nothing_left_to_do(finished, dataset, capfd):
    before = (finished / "student.npz").read_bytes()
    argv = ["tskd-jax", "run", "--config=hopper", *TINY_FLAGS, f"--workdir={finished}"]
    argv += [f"--config.dataset.path={dataset}", f"--config.methods=bc,{','.join(METHODS)}"]
    assert main(argv) == 0
    assert (finished / "student.npz").read_bytes() == before
    assert "student.cql:" not in capfd.readouterr().err
