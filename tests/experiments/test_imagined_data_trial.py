"""The trial of imagined data, at a tiny scale, as a process."""

import csv

from tiny import TINY_FLAGS, run_script


def test_it_compares_three_kinds_of_data(dataset, tmp_path):
    run_script(
        "imagined_data_trial.py",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        *(f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}"),
        *("--trajectories=2", "--episodes=1"),
    )
    with (tmp_path / "run" / "imagined_data_trial.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["data"] for row in rows] == ["filtered", "filtered+imagined", "imagined"]
    sizes = [int(row["transitions"]) for row in rows]
    assert sizes[1] == sizes[0] + sizes[2]
