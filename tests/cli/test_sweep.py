"""Grids of configs, and a sweep at a tiny scale, killed and resumed: one teacher, a right table."""

import csv
import json
import sys
from pathlib import Path

import processes
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.cli import sweep
from tskd_jax.cli.sweep import grid
from tskd_jax.config import make_config
from tskd_jax.errors import ConfigError
from tskd_jax.main import main
from tskd_jax.report.sweep import FACTS, RESULTS
from tskd_jax.run import files

FLAGS = (
    "--config=configs/hopper.py:quick",
    *TINY_FLAGS,
    "--config.methods=bc,tskd",
    "--config.ablations=False",
)
TEACHER = ("inverse_dynamics", "dynamics", "trajectory_generator", "reward_generator")
GRID = ("--grid=stitching.radius=0.3,0.5", "--grid=sampling.guidance=1.2,3.0")
RADII, WEIGHTS = (0.3, 0.5), (1.2, 3.0)
RUNS = [f"stitching.radius={r},sampling.guidance={w}" for r in RADII for w in WEIGHTS]

# What each run must compute: with another guidance other trajectories are imagined, too. Whether a
# student is trained anew depends on whether the filter keeps other data.
IMAGINED = {"imagination", "accept", "check_in_simulator", "value.tskd.0"}
STITCHED = {"stitching.tskd.0"}
COMPUTED = {RUNS[1]: IMAGINED | STITCHED, RUNS[2]: STITCHED, RUNS[3]: STITCHED}
STUDENT = {"student.tskd", "evaluation.tskd"}


def command(dataset: Path, folder: Path) -> list[str]:
    paths = (f"--config.dataset.path={dataset}", f"--workdir={folder}")
    return [sys.executable, "-m", "tskd_jax", "sweep", *FLAGS, *paths, *GRID, "--seeds=0,1"]


def combinations(*arguments: str) -> list:
    """The combinations of `--grid` arguments."""
    return grid(make_config("hopper", "quick"), arguments)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def stages_done(run: Path) -> dict[str, dict]:
    """Stage name -> its metrics."""
    try:
        stages = read(run / "manifest.json")["stages"]
    except FileNotFoundError:
        return {}
    return {stage["name"]: stage["metrics"] for stage in stages.values()}


def trained_in(run: Path) -> set[str]:
    """The trainings of a run; there is no file where all was taken over."""
    try:
        with (run / "metrics.csv").open() as file:
            return {row["stage"] for row in csv.DictReader(file)}
    except FileNotFoundError:
        return set()


@pytest.mark.slow
def test_one_teacher_and_a_table_that_is_right_when_killed_and_resumed(dataset, tmp_path):
    folder = tmp_path / "sweep"
    process = processes.start(command(dataset, folder))
    processes.wait_until(lambda: "stitching.tskd.0" in stages_done(folder / RUNS[1]), process)
    process.kill()
    process.communicate()
    assert [row["score"] != "" for row in table(folder)] == [True, False, False, False]

    before = (folder / RUNS[0] / "manifest.json").read_bytes()
    status, _, err = processes.finish(processes.start(command(dataset, folder)))
    assert status == 0, err
    assert (folder / RUNS[0] / "manifest.json").read_bytes() == before

    trained, known = [], set()
    for name in RUNS:
        stages = stages_done(folder / name)
        trained.append(trained_in(folder / name) & set(TEACHER))
        first = RUNS[0] if name != RUNS[0] else None
        assert {stages[stage].get("from") for stage in TEACHER} == {first}
        computed = {stage for stage in stages if "from" not in stages[stage]}
        assert computed - STUDENT == COMPUTED.get(name, set(stages) - STUDENT)
        # By key: computed where no run before had made the same, and nowhere else.
        records = read(folder / name / "manifest.json")["stages"]
        assert computed == {record["name"] for key, record in records.items() if key not in known}
        known |= set(records)
    assert trained == [set(TEACHER), set(), set(), set()]
    # What depends on the guidance alone is shared across radii, and on neither across all.
    assert stages["imagination"]["from"] == RUNS[1]
    assert stages["student.bc"]["from"] == RUNS[0]
    assert "from" not in stages["stitching.tskd.0"]

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
    argv = ["tskd-jax", "run", f"--config={ROOT / 'configs/hopper.py'}:quick", *FLAGS[1:]]
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
def test_mistakes_are_one_line_and_leave_nothing(argument, problem, tmp_path, capsys):
    flags = ["--config=configs/hopper.py", f"--workdir={tmp_path / 'sweep'}"]
    assert main(["tskd-jax", "sweep", *flags, "--grid=filter.share=0.1", argument]) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.strip().splitlines()
    assert problem in line
    assert not shown.out
    assert not (tmp_path / "sweep").exists()


@pytest.fixture
def earlier(tmp_path):
    """The folder of a sweep over ρ with one result and one run that has not ended."""
    columns = ("stitching.radius", "seeds", *RESULTS, *FACTS)
    values = (("0.1", "1", *"5" * len(RESULTS), "cpu × 1", "0.10"), ("0.7", "1", *[""] * 8))
    folder = tmp_path / "sweep"
    files.write_csv(folder / "sweep.csv", [dict(zip(columns, row, strict=True)) for row in values])
    return folder


def refused(folder: Path, capsys, *arguments: str) -> str:
    """The only line that a sweep says, which leaves its folder as it was."""

    def contents():
        return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}

    before = contents()
    flags = ["--config=configs/hopper.py", f"--workdir={folder}"]
    assert main(["tskd-jax", "sweep", *flags, *arguments]) == 2
    assert contents() == before
    shown = capsys.readouterr()
    assert not shown.out
    (line,) = shown.err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    "argument", ["stitching.radius=0.2,0.7", "value.steps=7", "stitching.rule=value_first"]
)
def test_results_of_another_grid_are_kept(earlier, capsys, argument):
    line = refused(earlier, capsys, f"--grid={argument}")
    assert "sweep.csv: has the result of stitching.radius=0.1, which is not in this grid" in line


def test_a_run_of_another_config_is_refused_before_the_table_is_written(earlier, capsys):
    files.write_json(earlier / "stitching.radius=0.1" / "config.json", {"seed": 1})
    line = refused(earlier, capsys, "--grid=stitching.radius=0.1,0.2")
    assert "stitching.radius=0.1 holds a run with another config" in line


@pytest.mark.parametrize("name", ["thesis.tex", "config.json", "sweep.csv"])
def test_a_folder_of_something_else_is_left_as_it_is(tmp_path, capsys, name):
    (tmp_path / name).write_text("a,b\n1,2\n")
    line = refused(tmp_path, capsys, "--grid=stitching.radius=0.1,0.2")
    assert ("holds no sweep" in line) != ("not the table of a sweep" in line)


def test_more_values_and_what_a_killed_sweep_left_are_no_obstacle(earlier, tmp_path):
    sweep._check_folder(combinations("stitching.radius=0.1,0.2"), earlier)
    sweep._check_folder(combinations("value.steps=7"), tmp_path / "new")
    for name in ("killed", "killed/value.steps=7", "killed/claims"):
        (tmp_path / name).mkdir()
    (tmp_path / "killed/lock").touch()
    sweep._check_folder(combinations("value.steps=7"), tmp_path / "killed")


def test_runs_of_one_folder_are_refused(earlier, capsys):
    line = refused(earlier, capsys, "--grid=dataset.path=a/b,a_b")
    assert "dataset.path=a/b and dataset.path=a_b have the same folder" in line


def test_every_combination_is_a_config():
    found = combinations(
        "stitching.radius=0.1,0.2", "value.steps=7,8", "stitching.rule=value_first"
    )
    assert [tuple(point.values()) for point, _ in found] == [
        (0.1, 7, "value_first"),
        (0.1, 8, "value_first"),
        (0.2, 7, "value_first"),
        (0.2, 8, "value_first"),
    ]
    point, (config, _) = found[2]
    assert list(point) == ["stitching.radius", "value.steps", "stitching.rule"]
    assert (config.stitching.radius, config.value.steps) == (0.2, 7)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["stitching.raduis=1"], r"did you mean config\.stitching\.radius"),
        (["stitching=1"], "is a section"),
        (["seed=1,2"], "a field of a section is meant"),
        (["stitching.radius=far"], "'far' is no float"),
        (["stitching.radius="], "'' is no float"),
        (["stitching.radius=0.1,-1"], "out of range"),
        (["stitching.radius=0.1,0.10"], "a value is there twice"),
        (["stitching.radius=0.1", "stitching.radius=0.2"], "is there twice"),
        (["imagination.enabled=yes"], "'yes' is no bool"),
        (["student.hidden=5"], "cannot be varied"),
        (["sampling.steps=5,500"], "more than"),
    ],
)
def test_mistakes_in_a_grid(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        combinations(*arguments)
