"""The comparison of teachers of few network calls, at a tiny scale."""

import csv

import pytest
from tiny import TINY_FLAGS, run_script

pytestmark = pytest.mark.slow


def test_it_compares_ddr1_with_what_it_is_distilled_into(dataset, tmp_path):
    run_script(
        "studies.few_steps",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        *(f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}"),
        *("--config.few_steps.windows=64", "--config.trajectory_generator.members=2"),
        *("--calls=1", "--samplers=dpm++:2", "--episodes=2", "--states=5", "--batch=4"),
        *("--repeats=2", f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sampling"] for row in rows] == [
        "ddim, 3 steps",
        "dpm++, 2 steps",
        "distilled, 1 calls",
    ]
    # Of two members, with guidance on a batch twice as large.
    assert [int(row["calls"]) for row in rows] == [12, 8, 1]
    assert float(rows[0]["speedup"]) == 1
    for row in rows:
        assert float(row["plans_per_second"]) > 0
        assert float(row["one_step"]) > 0
    assert float(rows[2]["held_out_r2"]) <= 1
    assert float(rows[2]["training_seconds"]) > 0
