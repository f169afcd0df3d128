"""A sweep at a tiny scale, killed and resumed: one teacher, and a table that is right."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import processes
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.main import main

FLAGS = ("--config=configs/hopper.py:quick", *TINY_FLAGS, "--config.evaluation.ablations=False")
TEACHER = ("inverse_dynamics", "dynamics", "trajectory_generator", "reward_generator")
GRID = ("--grid=stitching.radius=0.3,0.5", "--grid=sampling.guidance=1.2,3.0")
RADII, WEIGHTS = (0.3, 0.5), (1.2, 3.0)
AGAIN = ("stitching.tskd", "student.tskd", "evaluation.tskd")
RUNS = [f"stitching.radius={r},sampling.guidance={w}" for r in RADII for w in WEIGHTS]

# What runs after the first compute: with another guidance other trajectories are imagined, too.
COMPUTED = {RUNS[1]: ("imagination", *AGAIN), RUNS[2]: AGAIN, RUNS[3]: AGAIN}


def command(dataset: Path, folder: Path) -> list[str]:
    script = str(ROOT / "experiments" / "sweep.py")
    paths = (f"--config.dataset.path={dataset}", f"--workdir={folder}")
    return [sys.executable, script, *FLAGS, *paths, *GRID, "--seeds=0,1"]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def stages_done(run: Path) -> dict:
    try:
        return read(run / "manifest.json")["stages"]
    except FileNotFoundError:
        return {}


def test_one_teacher_and_a_table_that_is_right_when_killed_and_resumed(dataset, tmp_path):
    folder = tmp_path / "sweep"
    process = processes.start(command(dataset, folder))
    processes.wait_until(lambda: "stitching.tskd" in stages_done(folder / RUNS[1]), process)
    process.kill()
    process.communicate()
    assert [row["score"] != "" for row in table(folder)] == [True, False, False, False]

    before = (folder / RUNS[0] / "manifest.json").read_bytes()
    status, _, err = processes.finish(processes.start(command(dataset, folder)))
    assert status == 0, err
    assert (folder / RUNS[0] / "manifest.json").read_bytes() == before

    trained = []
    for name in RUNS:
        stages = stages_done(folder / name)
        with (folder / name / "metrics.csv").open() as file:
            trained.append({row["stage"] for row in csv.DictReader(file)} & set(TEACHER))
        first = RUNS[0] if name != RUNS[0] else None
        assert {stages[stage].get("from") for stage in TEACHER} == {first}
    assert trained == [set(TEACHER), set(), set(), set()]
    # What depends on the guidance alone is shared across radii, and on neither across all.
    assert stages["imagination"]["from"] == RUNS[1]
    assert stages["student.bc"]["from"] == RUNS[0]
    assert "from" not in stages["stitching.tskd"]

    for row, name in zip(table(folder), RUNS, strict=True):
        summary = read(folder / name / "summary.json")
        assert name == f"stitching.radius={row['stitching.radius']}," + (
            f"sampling.guidance={float(row['sampling.guidance'])}"
        )
        assert row["seeds"] == "2"
        assert float(row["score"]) == pytest.approx(summary["scores"]["tskd"]["mean"], 1e-5)
        low, high = summary["scores"]["tskd"]["interval"]
        assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high), 1e-5)
        own = [s for stage, s in summary["seconds"].items() if stage in COMPUTED.get(name, [stage])]
        assert float(row["seconds"]) == pytest.approx(sum(own), 1e-5)
    for field in ("stitching.radius", "sampling.guidance"):
        assert (folder / f"{field}.png").stat().st_size > 5000

    # A run of its own gives the same bits.
    alone = tmp_path / "alone"
    argv = ["tskd-jax", f"--config={ROOT / 'configs/hopper.py'}:quick", *FLAGS[1:]]
    argv += [f"--config.dataset.path={dataset}", f"--workdir={alone}"]
    argv += ["--config.stitching.radius=0.5", "--config.sampling.guidance=3.0"]
    assert main(argv) == 0
    assert read(alone / "summary.json")["results"] == summary["results"]


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--grid=stitching.raduis=1", "stitching.radius"),
        ("--grid=stitching.radius=0.1,-1", "out of range"),
        ("--seeds=0,x", "whole numbers"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(argument, problem, tmp_path):
    script = [sys.executable, ROOT / "experiments" / "sweep.py"]
    grid = "--grid=filter.share=0.1"
    flags = ["--config=configs/hopper.py", f"--workdir={tmp_path / 'sweep'}", grid, argument]
    done = subprocess.run([*script, *flags], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert problem in line
    assert not (tmp_path / "sweep").exists()
