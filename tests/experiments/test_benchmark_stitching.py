"""The stitching benchmark, at a tiny scale, as a process."""

import csv

import pytest
from tiny import TINY_FLAGS, run_script

pytestmark = pytest.mark.slow


def test_it_measures_every_method_and_compares_answers(dataset, tmp_path):
    printed = run_script(
        "benchmarks.stitching",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        *(f"--data={dataset}", "--sizes=100,1000", "--repeats=1", "--training_steps=2"),
        *("--cross_check=300", f"--results={tmp_path}", "--name=tiny"),
        # Wide enough that some are found: random flights are far from each other.
        "--config.stitching.radius=3.0",
    )
    assert "0 answers differ" in printed
    assert (tmp_path / "tiny.png").stat().st_size > 0
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == 2 * ["ckdtree", "cpu", "accelerator", "epoch"]
    # The second size is more than the file has: its episodes were repeated with jitter.
    assert int(rows[-1]["transitions"]) >= 1000
    searches = [row for row in rows if row["method"] != "epoch"]
    assert all(int(row["answers_that_differ"]) == 0 for row in searches)
    assert all(float(row["answered_share"]) > 0 for row in searches)
    assert all(float(row["seconds"]) > 0 for row in rows)
