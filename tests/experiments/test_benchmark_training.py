"""The training benchmark, shortly, as a process."""

import csv

import pytest
from tiny import run_script

pytestmark = pytest.mark.slow


def test_it_measures_models_alone_and_side_by_side(tmp_path):
    run_script(
        "benchmarks.training",
        "--presets=quick",
        *("--models=value,student", "--seconds=0.01", "--most_members=5"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    measured = [(row["model"], row["members"]) for row in rows]
    assert measured == [
        ("value", "2"),
        ("student", "1"),
        ("student", "5"),
    ]
    for row in rows:
        assert float(row["updates_per_second"]) > 0
        assert float(row["loop_over_alone"]) > 0
        assert 0 < float(row["share_of_matmul_peak"]) < 2
        assert 0 < float(row["share_of_sustained"]) < 2
    # Five students are five times the work of one.
    one, five = (float(row["matmul_gflop_per_update"]) for row in rows[1:])
    assert abs(five / one - 5) < 0.01
