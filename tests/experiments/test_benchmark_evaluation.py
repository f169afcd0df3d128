"""The benchmark of evaluation, shortly, as a process."""

import csv

import numpy as np
import pytest
from tiny import run_script

from tskd_jax.policy import Bounds, Policy, save_policy


def test_lockstep_beside_the_plain_loop(tmp_path):
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(11, 3)).astype(np.float32)
    policy = Policy((weights,), (np.zeros(3, np.float32),), Bounds.symmetric(1.0, 3))
    save_policy(tmp_path / "student.npz", policy)
    run_script(
        "benchmarks.evaluation",
        *(f"--student={tmp_path / 'student.npz'}", "--episodes=4", "--alone=2", "--repeats=1"),
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["one at a time", "lockstep", "lockstep"]
    assert [row["processes"] for row in rows] == ["1", "1", "2"]
    assert [row["episodes"] for row in rows] == ["2", "4", "4"]
    assert rows[1]["steps"] == rows[2]["steps"]
    first = float(rows[0]["steps_per_second"])
    for row in rows:
        rate = float(row["steps_per_second"])
        assert float(row["times_alone"]) == pytest.approx(rate / first, rel=1e-4)
        assert float(row["seconds_to_start"]) > 0
