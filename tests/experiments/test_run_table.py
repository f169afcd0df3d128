"""The table of several runs, from a tiny run and its summary."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT, TINY_FLAGS, run_script

from tskd_jax.config import finalize, make_config, to_plain
from tskd_jax.envs.tasks import normalized_score
from tskd_jax.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> dict:
    """The summary of a run in which nothing can be stitched, and of one step beside it."""
    workdir = tmp_path_factory.mktemp("run") / "whole"
    argv = ["tskd-jax", "run", f"--config={ROOT / 'configs/hopper.py'}", *TINY_FLAGS]
    argv += ["--config.methods=bc,tskd_one_step,tskd", "--config.stitching.radius=0.0"]
    argv += [f"--config.dataset.path={dataset}", f"--workdir={workdir}"]
    assert main(argv) == 0
    summary = json.loads((workdir / "summary.json").read_text())
    return summary | {"folder": str(workdir)}


def table(finished: dict, folder: Path, *flags: str, **changed) -> list[dict[str, str]]:
    """The rows of that run, as if it were of the preset but for the fields that are changed."""
    config = json.loads(json.dumps(to_plain(finalize(make_config("hopper", "quick"))[0])))
    for field, value in changed.items():
        section, _, key = field.partition("__")
        config[section][key] = value
    run = folder / "demo"
    run.mkdir()
    (run / "summary.json").write_text(json.dumps(finished | {"config": config}))
    flags = (*flags, f"--runs={run}", "--preset=quick", f"--results={folder}", "--name=runs")
    shutil.copy(Path(finished["folder"], "manifest.json"), run)
    run_script("paper.run_table", *flags)
    with (folder / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def test_errors_of_several_pipelines_are_their_mean(finished, tmp_path):
    check = finished["stages"]["check_in_simulator"]
    twice = {kind: one | {"error": 3 * one["error"]} for kind, one in check.items()}
    stages = finished["stages"] | {"check_in_simulator": {"of_seed": {"0": check, "1": twice}}}
    row, *_ = table(finished | {"stages": stages}, tmp_path)
    assert float(row["error"]) == rounded(2 * check["accepted"]["error"])
    assert float(row["error_recorded"]) == rounded(2 * check["recorded"]["error"])


def rounded(value: float) -> float:
    return float(f"{value:.6g}")


def test_a_row_for_each_method_of_a_run(finished, tmp_path):
    rows = {row["method"]: row for row in table(finished, tmp_path, "--against=bc")}
    without = "tskd_without_stitching"
    assert list(rows) == list(finished["scores"])
    assert set(rows) == {
        *("bc", "tskd_one_step", "tskd_one_step_without_imagination"),
        *("tskd", without, "tskd_without_imagination", "tskd_without_both"),
    }
    for method, score in finished["scores"].items():
        row = rows[method]
        assert float(row["mean"]) == rounded(score["mean"])
        assert float(row["student_seconds"]) == rounded(finished["methods"][method]["seconds"])
        assert [float(one) for one in row["scores"].split()] == pytest.approx(
            score["per_seed"], 1e-3
        )
    # The run's own gains are the other way round: what its last method is above the others.
    gain = finished["gains"]["bc"]
    assert float(rows["tskd"]["gain"]) == rounded(gain["mean"])
    ends = [float(rows["tskd"][end]) for end in ("gain_low", "gain_high")]
    assert ends == [rounded(end) for end in gain["interval"]]
    # Students of the same data differ by nothing, which has no interval.
    assert (rows["bc"]["gain"], rows["bc"]["gain_low"]) == ("0", "")
    assert rows[without]["gain"] == rows["tskd"]["gain"]
    seconds, check = finished["seconds"], finished["stages"]["check_in_simulator"]
    for row in rows.values():
        assert row["changes"] == ""
        assert row["run"] == "demo"
        assert row["data"] == "few"
        assert float(row["error"]) == rounded(check["accepted"]["error"])
        assert float(row["error_recorded"]) == rounded(check["recorded"]["error"])
        # The baseline is there because the preset conditions on advantages, or it is not.
        assert float(row["teacher_seconds"]) == pytest.approx(
            sum(
                seconds.get(stage, 0.0)
                for stage in (
                    *("inverse_dynamics", "dynamics", "baseline"),
                    *("trajectory_generator", "reward_generator"),
                )
            ),
            1e-5,
        )
    imagined = {method: int(row["imagined"]) for method, row in rows.items()}
    assert imagined == {
        method: about["data"][0]["imagined_transitions"]
        for method, about in finished["methods"].items()
    }
    assert imagined["bc"] == imagined["tskd_one_step_without_imagination"] == 0
    assert imagined["tskd_one_step"] > 0
    # A student of one step has rewards of one step; whole trajectories are as long as they go.
    lengths = {method: row["imagined_steps"] for method, row in rows.items()}
    assert lengths["bc"] == lengths["tskd_without_imagination"] == ""
    assert lengths["tskd_one_step"] == "1"
    assert lengths["tskd"] == lengths[without]
    assert float(lengths["tskd"]) > 1
    task = finished["task"]
    told = finished["stages"]["imagination"]["imagined"]["return_mean"]
    score = normalized_score(task["random_return"], task["expert_return"], told)
    assert float(rows["tskd_one_step"]["imagined_score"]) == pytest.approx(score, 1e-5)
    # Within a radius of 0 there is nothing to stitch to.
    stitches = {method: (row["stitches"], row["replaced"]) for method, row in rows.items()}
    assert stitches["tskd"] == stitches["tskd_without_imagination"] == ("0", "0")
    assert stitches["bc"] == stitches[without] == ("", "")
    stitching = {method for method, row in rows.items() if float(row["stitching_seconds"])}
    assert stitching == {"tskd_without_imagination", "tskd"}


def test_what_a_run_has_changed_is_named(finished, tmp_path):
    rows = table(
        *(finished, tmp_path),
        student__steps=7,
        tskd_one_step__start_states="all",
        stitching__radius=9.0,
    )
    assert {row["changes"] for row in rows} == {"student.steps=7, tskd_one_step.start_states=all"}


def test_it_is_made_in_parts_and_readable(finished, tmp_path):
    first = table(finished, tmp_path, "--against=bc")
    known = tmp_path / "runs.csv"
    run_script("paper.run_table", f"--known={known}", f"--results={tmp_path}", "--name=again")
    assert (tmp_path / "again.csv").read_text() == known.read_text()
    text = (tmp_path / "again.md").read_text()
    assert text == (tmp_path / "runs.md").read_text()
    head, _, line = (part.split(" | ") for part in text.splitlines())
    assert [*map(len, (head, line))] == [1 + len(first)] * 2
    bc, tskd = first[0], first[-1]
    assert line[0] == "| `few`"
    assert line[1] == f"{float(bc['mean']):.1f} ± {float(bc['stderr']):.1f}"
    assert f", {float(tskd['gain']):+.1f} (" in line[-1]


def test_without_the_other_method_there_are_no_gains(finished, tmp_path):
    rows = table(finished, tmp_path)
    assert {row["gain"] + row["gain_low"] + row["gain_high"] for row in rows} == {""}


def test_a_folder_without_a_run_is_told_in_one_line(tmp_path):
    command = [sys.executable, "-m", "experiments.paper.run_table", f"--runs={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert str(tmp_path) in line
