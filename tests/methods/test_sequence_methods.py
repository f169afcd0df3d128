"""Decision Transformer and Trajectory Transformer as methods of a run."""

import json

import numpy as np
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.main import main

pytestmark = pytest.mark.slow

METHODS = ("decision_transformer", "trajectory_transformer")
SMALL = (
    *(flag for flag in TINY_FLAGS if "config.methods" not in flag),
    f"--config.methods=bc,{','.join(METHODS)}",
    *(f"--config.{name}.{field}" for name in METHODS for field in ("layers=1", "head_width=8")),
    "--config.decision_transformer.context=3",
    "--config.trajectory_transformer.sequence=2",
    "--config.trajectory_transformer.context=2",
    "--config.trajectory_transformer.bins=10",
    "--config.trajectory_transformer.horizon=2",
    "--config.trajectory_transformer.beam_width=2",
)


def command(workdir, dataset, *more):
    config = f"--config={ROOT / 'configs/hopper.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={workdir}")
    return ["tskd-jax", config, *paths, *SMALL, *more]


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sequence_models") / "whole"
    assert main(command(workdir, dataset)) == 0
    return workdir


def test_the_simulator_judges_them(finished):
    summary = json.loads((finished / "summary.json").read_text())
    assert list(summary["scores"]) == ["bc", *METHODS]
    returns = np.load(finished / "returns.npz")
    for name in METHODS:
        assert returns[name].shape == (2, 2)
        assert np.isfinite(returns[name]).all()
        assert summary["methods"][name]["parameters"] > 1000
        # They are no students, which are files of their own.
        assert not (finished / f"students/{name}").exists()
    best = summary["dataset"]["return_quantiles"]["100"]
    asked = summary["stages"]["student.decision_transformer"]["target_return"]
    assert asked == pytest.approx(best)


@pytest.mark.parametrize("stage", [f"student.{name}" for name in METHODS])
def test_stopped_after_a_training_it_ends_in_the_same_returns(
    finished, dataset, tmp_path, capfd, stage
):
    """The actors are read from the folder then."""
    workdir = tmp_path / "pieces"
    assert main(command(workdir, dataset, f"--stop_after={stage}")) == 0
    assert f"stopped after {stage}" in capfd.readouterr().err
    assert main(command(workdir, dataset)) == 0
    whole, pieces = (np.load(folder / "returns.npz") for folder in (finished, workdir))
    for name in METHODS:
        np.testing.assert_array_equal(pieces[name], whole[name])


@pytest.mark.parametrize("name", METHODS)
def test_without_a_simulator_they_are_refused(dataset, tmp_path, capfd, name):
    own = f"--config={ROOT / 'configs/own.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}")
    assert main(["tskd-jax", own, *paths, f"--config.methods={name}"]) != 0
    assert "nothing but a simulator judges it" in capfd.readouterr().err
