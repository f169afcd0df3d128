"""The table of several runs, from a tiny run and its summary."""

import csv
import json
from pathlib import Path

import pytest
from tiny import ROOT, TINY_FLAGS, run_script

from tskd_jax.config import finalize, make_config, to_plain
from tskd_jax.main import main


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory) -> dict:
    """The summary of a run in which nothing can be stitched, and of one step beside it."""
    workdir = tmp_path_factory.mktemp("run") / "whole"
    argv = ["tskd-jax", "run", f"--config={ROOT / 'configs/hopper.py'}", *TINY_FLAGS]
    argv += ["--config.methods=bc,tskd_one_step,tskd", "--config.stitching.radius=0.0"]
    argv += [f"--config.dataset.path={dataset}", f"--workdir={workdir}"]
    assert main(argv) == 0
    return json.loads((workdir / "summary.json").read_text())


def table(finished: dict, folder: Path, **changed) -> list[dict[str, str]]:
    """The rows of that run, as if it were of the preset but for the fields that are changed."""
    config = json.loads(json.dumps(to_plain(finalize(make_config("hopper", "quick"))[0])))
    for field, value in changed.items():
        section, _, key = field.partition("__")
        config[section][key] = value
    run = folder / "demo"
    run.mkdir()
    (run / "summary.json").write_text(json.dumps(finished | {"config": config}))
    flags = (f"--runs={run}", "--preset=quick", f"--results={folder}", "--name=runs")
    run_script("paper.run_table", *flags)
    with (folder / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def rounded(value: float) -> float:
    return float(f"{value:.6g}")


def test_a_row_for_each_method_of_a_run(finished, tmp_path):
    rows = {row["method"]: row for row in table(finished, tmp_path)}
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
    gain = finished["gains"]["bc"]["mean"]
    assert float(rows["bc"]["gain"]) == rounded(gain)
    assert float(rows["bc"]["gain_low"]) < gain < float(rows["bc"]["gain_high"])
    # Students of the same data differ by nothing, which has no interval.
    assert (rows[without]["gain"], rows[without]["gain_low"]) == ("0", "")
    assert rows["tskd"]["gain"] == ""
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
