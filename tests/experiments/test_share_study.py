"""The study of filter shares, at a tiny scale, as a process."""

import csv

import numpy as np
from tiny import TINY_FLAGS, run_script


def test_students_of_each_share_are_scored_in_both_worlds(dataset, tmp_path):
    run_script(
        "studies.shares",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        *(f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}"),
        *("--shares=0.001,1", "--judged=3", f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["share"], row["seed"]) for row in rows] == [
        *(("0.001", "0"), ("0.001", "1"), ("1", "0"), ("1", "1"))
    ]
    assert int(rows[0]["transitions"]) < int(rows[2]["transitions"])
    with (tmp_path / "tiny-worlds.csv").open() as file:
        (world,) = csv.DictReader(file)
    said, scores = (
        np.array([float(row[name]) for row in rows]).reshape(2, 2).mean(1)
        for name in ("judged", "score")
    )
    assert float(world["chosen"]) == (0.001, 1.0)[said.argmax()]
    np.testing.assert_allclose(float(world["chosen_score"]), scores[said.argmax()], rtol=1e-4)
    np.testing.assert_allclose(float(world["best_score"]), scores.max(), rtol=1e-4)
    np.testing.assert_allclose(float(world["bias"]), (said - scores).mean(), rtol=1e-3)
    assert float(world["held_out_error"]) > 0
