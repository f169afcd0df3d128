"""The study of learned worlds as judges, on a tiny run."""

import csv

import pytest
from tiny import ROOT, TINY_FLAGS, run_script

from tskd_jax.main import main

pytestmark = pytest.mark.slow


def test_every_student_is_judged_in_every_world(dataset, tmp_path):
    folder = tmp_path / "run"
    argv = ["tskd-jax", "run", f"--config={ROOT / 'configs/hopper.py'}", *TINY_FLAGS]
    argv += ["--config.methods=bc", f"--config.dataset.path={dataset}", f"--workdir={folder}"]
    assert main(argv) == 0
    run_script(
        "studies.referee",
        *(f"--runs={folder}", "--world=", "--world=steps=3", f"--results={tmp_path}"),
        *("--episodes=3", "--walked=1", "--steps=20", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["world"], row["method"], row["seed"]) for row in rows] == [
        (world, "bc", seed) for world in ("", "steps=3") for seed in ("0", "1")
    ]
    for row in rows:
        # So brief a training leaves errors of the size of a step, and of no other.
        assert 0 < float(row["rollout_median"]) <= float(row["rollout_error"]) < 5
        assert 0 < float(row["error"]) < 5
    with (tmp_path / "tiny-worlds.csv").open() as file:
        plain, brief = csv.DictReader(file)
    assert plain["held_out_error"] != brief["held_out_error"]
