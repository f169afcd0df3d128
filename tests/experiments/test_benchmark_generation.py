"""The generation benchmark, shortly, as a process."""

import csv

import pytest
from tiny import run_script

pytestmark = pytest.mark.slow


def test_it_compares_with_the_fewest_and_compiles_once(tmp_path):
    printed = run_script(
        "benchmarks.generation",
        *("--networks=quick", "--trajectories=4,2", "--steps=3", "--repeats=1"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trajectories"] for row in rows] == ["2", "4"]
    few, more = (float(row["milliseconds_per_trajectory_step"]) for row in rows)
    assert 0 < few < 1000 * float(rows[0]["first_call_seconds"]) / 6
    assert float(rows[0]["times_fewest"]) == 1
    assert float(rows[1]["times_fewest"]) == pytest.approx(more / few, rel=1e-4)
    for row in rows:
        assert row["compiled_after_first"] == "0"
        assert 0.1 < float(row["peak_memory_gib"]) < 20
        assert row["device"]
    assert "milliseconds_per_trajectory_step" in printed
