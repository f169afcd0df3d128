"""The table of several runs, from the summary of the README's demo."""

import csv
import json

from tiny import ROOT, run_script

SUMMARY = ROOT / "experiments/results/hopper-embedded-quick.json"


def table(tmp_path, **changed) -> list[dict[str, str]]:
    summary = json.loads(SUMMARY.read_text())
    for field, value in changed.items():
        section, _, key = field.partition("__")
        summary["config"][section][key] = value
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps(summary))
    flags = (f"--runs={folder}", "--scale=quick", f"--results={tmp_path}", "--name=runs")
    run_script("run_table.py", *flags)
    with (tmp_path / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_row_for_each_method_of_a_run(tmp_path):
    rows = {row["method"]: row for row in table(tmp_path)}
    summary = json.loads(SUMMARY.read_text())
    assert list(rows) == list(summary["scores"])
    for method, score in summary["scores"].items():
        assert float(rows[method]["mean"]) == float(f"{score['mean']:.6g}")
    gain = summary["gains"]["bc"]["mean"]
    assert float(rows["bc"]["gain"]) == float(f"{gain:.6g}")
    assert float(rows["bc"]["gain_low"]) < gain < float(rows["bc"]["gain_high"])
    # Students of the same data differ by nothing, which has no interval.
    without = rows["tskd_no_stitching"]
    assert (without["gain"], without["gain_low"]) == ("0", "")
    assert {row["changes"] for row in rows.values()} == {""}
    assert {row["run"] for row in rows.values()} == {"demo"}


def test_what_a_run_has_changed_is_named(tmp_path):
    rows = table(tmp_path, student__steps=7, imagination__starts="states", stitching__radius=9.0)
    assert {row["changes"] for row in rows} == {"imagination.starts=states, student.steps=7"}
