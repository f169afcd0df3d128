"""Table 1 of the paper: what its flags mean, what it marks, and that it goes on from its runs."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny import ROOT, import_script, run_script

from experiments.paper.datasets import parse_dataset, parse_datasets
from tskd_jax.config import finalize, make_config, to_plain
from tskd_jax.errors import ConfigError
from tskd_jax.evaluation.scores import mean_interval
from tskd_jax.report.published import table1 as published

pytestmark = pytest.mark.slow

METHODS = ["bc", "tskd"]

runs, table1 = import_script("paper.runs"), import_script("paper.table1")


def row(dataset, method, mean, seeds=5, paper="", refused=""):
    return {
        **{"dataset": dataset, "name": method, "seeds": seeds, "mean": mean, "paper": paper},
        "refused": refused,
        **{"stderr": 1.0, "low": mean - 2, "high": mean + 2, "title": f"{method}, really"},
    }


def test_what_the_paper_says():
    assert published("hopper-medium-v2", "tskd") == (83.2, 8.1)
    assert published("walker2d-medium-expert-v2", "decision_diffuser") == (108.8, None)
    assert published("kitchen-mixed-v0", "mbts") is None
    assert published("hopper_medium", "bc") is None
    assert published("hopper-medium-v2", "rebrac") is None


def test_datasets():
    parse = parse_dataset
    assert parse("hopper") == ("hopper-embedded", "hopper", "embedded", "")
    assert parse("ant:medium") == ("ant-medium", "ant", "medium", "")
    assert parse("own_robots/walker2d_x.hdf5") == (
        *("walker2d_x", "walker2d", ""),
        "own_robots/walker2d_x.hdf5",
    )
    # A level by its own name, so that it has the level's published settings.
    assert parse("hopper-medium-v2") == parse("hopper:medium")
    assert parse("hopper:medium") == ("hopper-medium", "hopper", "medium", "")
    assert parse("kitchen-mixed-v0") == ("kitchen_mixed-mixed", "kitchen_mixed", "mixed", "")
    assert parse("hopper-random-v2")[1:] == ("hopper", "", "hopper-random-v2")
    assert parse("hopper:a/b.npz") == ("b", "hopper", "", "a/b.npz")
    with pytest.raises(ConfigError, match="begins with none of hopper"):
        parse("robot.hdf5")
    with pytest.raises(ConfigError, match="nothing after the colon"):
        parse("hopper:")


def test_two_datasets_of_one_name_would_share_a_folder():
    texts = ["hopper:mujoco/hopper/medium-v0", "walker2d:mujoco/walker2d/medium-v0"]
    with pytest.raises(ConfigError, match="both would be called medium-v0"):
        parse_datasets(texts)
    assert len(parse_datasets([texts[0], texts[0], "hopper"])) == 3


def test_what_is_near_the_best_is_marked():
    rows = [row("a_medium", "bc", 92.9), row("a_medium", "tskd", 100.0)]
    rows += [row("b_medium", "bc", 95.0), row("b_medium", "tskd", 100.0, paper=83.2)]
    assert table1.cells(rows, METHODS) == [
        ("a_medium", ["92.9 ± 1.0 (91 … 95)", "**100.0 ± 1.0** (98 … 102)"]),
        ("b_medium", ["**95.0 ± 1.0** (93 … 97)", "**100.0 ± 1.0** (98 … 102) [paper: 83.2]"]),
        ("average, medium", ["94.0", "*100.0*"]),
        ("average", ["94.0", "*100.0*"]),
    ]


def test_what_is_refused_and_few_seeds_show():
    rows = [row("a", "bc", 92.0, seeds=2), row("a", "tskd", 100.0, refused=1)]
    (_, cells), *_ = table1.cells(rows, METHODS)
    assert cells == ["92.0 ± 1.0 (n = 2) (90 … 94)", "**100.0 ± 1.0**† (98 … 102)"]
    (_, cells), *_ = table1.cells([row("a", "tskd", 100.0, refused=0.4)], METHODS)
    assert cells == ["", "**100.0 ± 1.0** († 40%) (98 … 102)"]


def test_columns_have_the_titles_of_the_runs():
    assert table1.titles([row("a", "bc", 1.0)], METHODS) == ["bc, really", "TSKD"]
    assert table1.titles([], ["filtered_bc"]) == ["filtered BC (best 10%)"]


def test_values_of_set(monkeypatch):
    dataset = parse_dataset("hopper")

    def config(*changes):
        for name, value in {"SET": changes, "SEEDS": ["0"]}.items():
            monkeypatch.setattr(runs, name, SimpleNamespace(value=value))
        return runs.config_of(dataset, runs.Wanted("bc"))

    for name, value in {"SCALE": "quick", "SEED_AXIS": "student"}.items():
        monkeypatch.setattr(runs, name, SimpleNamespace(value=value))
    assert config("dataset.observations=qpos,qvel").dataset.observations == "qpos,qvel"
    assert config("student.steps=20").student.steps == 20
    with pytest.raises(ConfigError, match=r"--set=student\.steps=20,30: one value is meant"):
        config("student.steps=20,30")


def test_numbers_that_are_none():
    assert table1.parse_few("bc:2") == ("bc", 2)
    for text in ("bc", "bc:0", "bc:two"):
        with pytest.raises(ConfigError, match=f"--few={text}: METHOD:COUNT is meant"):
            table1.parse_few(text)


def test_runs_of_older_configs():
    """What an older run does not know had its default, and not what is wanted."""
    wanted = json.loads(json.dumps(to_plain(finalize(make_config("hopper"))[0])))
    assert runs.differing(wanted, wanted) == []
    older = {name: dict(part) if isinstance(part, dict) else part for name, part in wanted.items()}
    del older["student"]["hidden"]  # which is the default
    del older["aggregation"]
    assert runs.differing(older, wanted) == []
    del older["student"]["steps"]  # which is the preset's
    assert runs.differing(older, wanted) == ["student"]
    assert runs.differing(wanted | {"gone": {"field": 1}}, wanted) == ["gone"]


def test_an_average_of_all_datasets_or_none():
    rows = [row("a", "bc", 1.0), row("a", "tskd", 2.0), row("b", "bc", 3.0)]
    assert table1.cells(rows, METHODS)[-1] == ("average", ["*2.0*", ""])


def test_below_zero_the_best_is_still_near_itself():
    rows = [row("a", "bc", -10.0), row("a", "tskd", -20.0)]
    bc, tskd = table1.cells(rows, METHODS)[0][1]
    assert bc.startswith("**-10.0")
    assert tskd.startswith("-20.0")


def test_latex():
    lines = [("a_b", ["**1.0 ± 0.5** (0 … 2)", "*3.0*"]), ("average", ["", "1"])]
    assert table1.latex(lines, ["BC (10%)", "TSKD"]).splitlines()[4:7] == [
        r"a\_b & \textbf{1.0 $\pm$ 0.5} (0 \ldots{} 2) & \emph{3.0} \\",
        r"\midrule",
        r"average &  & 1 \\",
    ]


def test_the_interval_of_a_mean_by_hand():
    low, high = mean_interval(np.array([1.0, 2.0, 3.0])) or (0, 0)
    half = 4.302653 / np.sqrt(3)  # of Student's t with two degrees of freedom
    np.testing.assert_allclose([low, high], [2 - half, 2 + half], rtol=1e-6)
    assert mean_interval(np.array([1.0])) is None


def test_it_makes_what_is_missing_and_reads_the_rest(dataset, tmp_path):
    dataset = Path(shutil.copy(dataset, tmp_path))
    changes = ("student.steps=20", "evaluation.episodes=2", "referee.episodes=0")
    settings = [f"--set={change}" for change in changes]
    argv = [f"--datasets=hopper:{dataset}", "--scale=quick", f"--workdir={tmp_path}/runs"]
    argv += [f"--results={tmp_path}", "--seeds=0,1", "--few=filtered_bc:1", *settings]
    run_script("paper.table1", *argv, "--methods=bc")
    before = (tmp_path / "runs" / "quick" / dataset.stem / "bc" / "summary.json").stat().st_mtime_ns
    run_script("paper.table1", *argv, "--methods=bc,filtered_bc")
    assert (
        tmp_path / "runs" / "quick" / dataset.stem / "bc" / "summary.json"
    ).stat().st_mtime_ns == before
    command = [sys.executable, "-m", "experiments.paper.table1", *argv, "--methods=bc"]
    other = subprocess.run([*command, "--set=student.steps=21"], cwd=ROOT, capture_output=True)
    assert other.returncode == 2
    assert b"a run with other student; choose another --workdir" in other.stderr
    # With other fields, what does not depend on them is taken over.
    elsewhere = [f"--workdir={tmp_path}/again", f"--results={tmp_path}/again"]
    elsewhere += [f"--reuse={tmp_path}/runs", "--set=iql.steps=7"]
    run_script("paper.table1", *argv, *elsewhere, "--methods=bc")
    taken = tmp_path / "again" / "quick" / dataset.stem / "bc" / "summary.json"
    stages = json.loads(taken.read_text())["stages"]
    assert stages["student.bc"]["from"] == "bc"
    with (tmp_path / "quick.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert [row["seeds"] for row in rows.values()] == ["2", "1"]
    assert all(row["paper"] == "" for row in rows.values())
    assert float(rows["bc"]["low"]) <= float(rows["bc"]["mean"]) <= float(rows["bc"]["high"])
    assert (tmp_path / "quick.md").read_text().count("\n") == 4
    assert "toprule" in (tmp_path / "quick.tex").read_text()
    elsewhere = [*argv, f"--workdir={tmp_path}/none", f"--known={tmp_path}/quick.csv"]
    run_script("paper.table1", *elsewhere, "--methods=bc,filtered_bc", "--name=joined")
    assert not (tmp_path / "none").exists()
    for ending in ("md", "csv"):
        joined, made = (tmp_path / f"{name}.{ending}" for name in ("joined", "quick"))
        assert joined.read_text() == made.read_text()
    command = [sys.executable, "-m", "experiments.paper.table1", *elsewhere, "--methods=bc"]
    other = subprocess.run([*command, "--seed_axis=pipeline"], cwd=ROOT, capture_output=True)
    assert other.returncode == 2
    assert b"quick.csv: made with --seed_axis=student" in other.stderr
    # The same name, but another robot's data, or other data.
    walker = [*command, f"--datasets=walker2d:{dataset}"]
    other = subprocess.run(walker, cwd=ROOT, capture_output=True)
    assert other.returncode == 2
    assert b"the known row is of another hopper dataset of this name" in other.stderr
    with dataset.open("ab") as file:
        file.write(b"more")
    read = [*command[:3], *argv, "--methods=bc"]
    for line, said in ((command, b"the known row is of another"), (read, b"has changed since")):
        other = subprocess.run(line, cwd=ROOT, capture_output=True)
        assert other.returncode == 2
        assert said in other.stderr
