"""Sweeps of processes or jobs: one teacher, no run twice, the same bits as one after another."""

import hashlib
import json
import os
import re
import signal
import sys
from collections import Counter
from pathlib import Path

import processes
import pytest
from tiny import TINY_FLAGS

pytestmark = pytest.mark.slow

RADII, WEIGHTS = (0.3, 0.5), (1.2, 3.0)
RUNS = [f"stitching.radius={r},sampling.guidance={w}" for r in RADII for w in WEIGHTS]


def command(dataset: Path, folder: Path, launcher: str) -> list[str]:
    """A sweep of 2 × 2."""
    return [
        *(sys.executable, "-m", "tskd_jax", "sweep", "--config=configs/hopper.py:quick"),
        *TINY_FLAGS,
        *("--config.methods=bc,tskd", "--config.ablations=False", "--seeds=0,1"),
        *("--grid=stitching.radius=0.3,0.5", "--grid=sampling.guidance=1.2,3.0"),
        *(f"--config.dataset.path={dataset}", f"--workdir={folder}", f"--launcher={launcher}"),
    ]


def stages(run: Path) -> dict[str, dict]:
    """Key -> record of the stages that are done."""
    try:
        return json.loads((run / "manifest.json").read_text())["stages"]
    except FileNotFoundError:
        return {}


def made_in(run: Path) -> set[str]:
    """Names of the stages that the run made itself."""
    return {stage["name"] for stage in stages(run).values() if "from" not in stage["metrics"]}


def holder(path: Path) -> int:
    """The process that holds a lock."""
    found = re.match(r"process (\d+) on ", path.read_text())
    assert found
    return int(found[1])


def results(folder: Path) -> dict[str, tuple]:
    """Of each run: checksums of its students, what its stages gave, and its scores."""
    found = {}
    for run in RUNS:
        summary = json.loads((folder / run / "summary.json").read_text())
        files = sorted((folder / run).glob("**/*.npz"))
        assert files
        sums = {
            file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
        }
        found[run] = sums, summary["results"], summary["scores"]
    return found


@pytest.fixture(scope="module")
def in_order(dataset, tmp_path_factory):
    """What the runs give one after another."""
    folder = tmp_path_factory.mktemp("in_order") / "sweep"
    status, _, err = processes.finish(processes.start(command(dataset, folder, "none")))
    assert status == 0, err
    return results(folder)


def check(folder: Path, in_order: dict[str, tuple]) -> None:
    """Every stage is made by one run, and gives the same bits."""
    makers = Counter(
        key
        for run in RUNS
        for key, stage in stages(folder / run).items()
        if "from" not in stage["metrics"]
    )
    assert set(makers) == {key for run in RUNS for key in stages(folder / run)}
    assert set(makers.values()) == {1}
    assert results(folder) == in_order


def test_two_processes_killed_and_gone_on_with(dataset, in_order, tmp_path):
    folder = tmp_path / "sweep"
    launcher = processes.start(command(dataset, folder, "local:2"))
    first = [folder / run for run in RUNS[:2]]
    processes.wait_until(
        lambda: any("trajectory_generator" in made_in(run) for run in first), launcher
    )
    (maker,) = (run for run in first if "trajectory_generator" in made_in(run))
    os.kill(holder(maker / "lock"), signal.SIGKILL)
    # The others go on without it, until the launcher is killed.
    processes.wait_until(lambda: any("dynamics" in made_in(folder / run) for run in RUNS), launcher)
    os.kill(holder(folder / "lock"), signal.SIGKILL)
    _, _, err = processes.finish(launcher)
    assert f"{maker.name}: ended by SIGKILL; the same command goes on" in err

    again = processes.start(command(dataset, folder, "local:2"))
    status, out, err = processes.finish(again)
    assert status == 0, err
    assert len(out.strip().splitlines()) == len(RUNS)  # the table
    for run in RUNS:
        assert f"{run}: done, score " in err
        assert str(folder / "output" / f"{run}.txt") in err
    check(folder, in_order)


def test_jobs_of_submitit(dataset, in_order, tmp_path):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    folder = tmp_path / "sweep"
    status, _, err = processes.finish(processes.start(command(dataset, folder, "submitit-local")))
    assert status == 0, err
    check(folder, in_order)
