"""Methods that plan instead of leaving a student: a tiny run of them, whole and in pieces."""

import json
from pathlib import Path

import numpy as np
import processes
import pytest

from tskd_jax.main import main
from tskd_jax.report.table import table

pytestmark = pytest.mark.slow

PLANNERS = ("diffuser", "decision_diffuser")
TINY = (
    "--config.methods=bc,diffuser,decision_diffuser",
    *(f"--config.{part}.features=8" for part in (*PLANNERS, "value_guide")),
    *(f"--config.{part}.multipliers=(1,)" for part in (*PLANNERS, "value_guide")),
    *(f"--config.{part}.horizon=4" for part in PLANNERS),
    "--config.decision_diffuser.sampling_steps=3",
    "--config.diffuser.diffusion_steps=4",
    "--config.diffuser.plans=2",
    "--config.evaluation.episodes=1",
)


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    interpreter = 3  # words that start one
    return ["tskd-jax", *processes.command(workdir, dataset, *TINY, *more)[interpreter:]]


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("planners") / "whole"
    assert main(command(workdir, dataset)) == 0
    return workdir


def test_planners_stand_beside_students(finished):
    summary = json.loads((finished / "summary.json").read_text())
    returns = np.load(finished / "returns.npz")
    for name in PLANNERS:
        assert returns[name].shape == (2, 1)
        assert np.isfinite(returns[name]).all()
        assert summary["methods"][name]["parameters"] > 1000
        assert not (finished / f"students/{name}").exists()
    assert (finished / "students/bc/seed_1.npz").exists()
    assert not (finished / "student.npz").exists()  # the last method leaves none
    for title in ("Diffuser", "Decision Diffuser"):
        assert title in table(summary)


def test_stopped_within_planners_it_ends_in_the_same_returns(finished, dataset, tmp_path, capfd):
    workdir = tmp_path / "pieces"
    for stage in ("value_guide", "student.decision_diffuser"):
        assert main(command(workdir, dataset, f"--stop_after={stage}")) == 0
        assert f"stopped after {stage}" in capfd.readouterr().err
    assert main(command(workdir, dataset)) == 0
    with np.load(finished / "returns.npz") as whole, np.load(workdir / "returns.npz") as pieces:
        for name in PLANNERS:
            np.testing.assert_array_equal(whole[name], pieces[name])
