"""The trial of imagined data, at a tiny scale, as a process."""

import csv

import pytest
from tiny import TINY_FLAGS, run_script

pytestmark = pytest.mark.slow


def test_it_compares_three_kinds_of_data_for_each_guidance(dataset, tmp_path):
    run_script(
        "studies.imagined_data_trial",
        *("--config=configs/hopper.py:quick", *TINY_FLAGS),
        # As `small` has it: one step from every state that the filter keeps.
        *("--config.methods=bc,filtered_bc,tskd_one_step", "--config.sampling.replan_every=1"),
        *("--config.tskd_one_step.start_states=kept", "--config.tskd_one_step.max_steps=1"),
        "--config.trajectory_generator.residual=True",
        "--config.trajectory_generator.condition=advantage",
        *("--config.trajectory_generator.kept_fraction=0.5", "--config.sampling.target_return=1.0"),
        *(f"--config.dataset.path={dataset}", f"--workdir={tmp_path / 'run'}"),
        *("--guidances=1,2", "--trajectories=100000", "--episodes=2", "--checked=20"),
        "--students=3x8,2x4",
        *(f"--results={tmp_path}", "--name=tiny"),
    )
    with (tmp_path / "tiny.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["updates"], row["batch"]) for row in rows] == [("3", "8"), ("2", "4")] * 5
    # Each training of the filter's students is what the others of that training are compared with.
    assert [row["difference_low"] == "nan" for row in rows] == [True] * 2 + [False] * 8
    assert rows[2]["mean"] != rows[3]["mean"]
    rows = rows[::2]
    assert [row["data"] for row in rows] == [
        "filtered",
        *("filtered + imagined, w = 1", "imagined, w = 1"),
        *("filtered + imagined, w = 2", "imagined, w = 2"),
    ]
    sizes = [int(row["transitions"]) for row in rows]
    # Each kept state is imagined from once, and each of its transitions is one step long.
    assert sizes == [sizes[0], 2 * sizes[0], sizes[0], 2 * sizes[0], sizes[0]]
    assert all(float(r["difference_low"]) <= float(r["difference_high"]) for r in rows[1:])
    assert all(float(row["check"]) > 0 for row in rows)
    # The seconds of DDR-I are those of all that it is made of.
    assert len({row["training_seconds"] for row in rows}) == 1
