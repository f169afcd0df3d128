"""tskd-jax bench, as a user calls it."""

import csv

import numpy as np
from tiny import SMALL_NETWORKS

from tskd_jax.cli import main

COMMAND = (
    *("bench", "--config=hopper:quick", "--transitions=2000", "--seconds=0.1"),
    *("--config.trajectory_generator.features=8", "--config.trajectory_generator.batch_size=4"),
    *SMALL_NETWORKS,
)


def measured(*flags):
    return main(["tskd-jax", *COMMAND, *flags])


def test_a_table_of_what_is_asked_for(tmp_path, capsys):
    flags = "--programs=student,baseline", "--against=student.batch_size=512"
    assert measured(*flags, f"--workdir={tmp_path}") == 0
    shown = capsys.readouterr().out
    assert "a run's programs take" in shown
    [path] = tmp_path.glob("*.csv")
    rows = list(csv.DictReader(path.open()))
    assert [row["program"] for row in rows] == ["student", "baseline"]
    assert all(float(row["seconds"]) > 0 and row["device"] for row in rows)
    assert float(rows[0]["ratio"]) > 1.5


def test_several_values_are_refused(tmp_path, capsys):
    assert measured("--against=student.batch_size=8,16", f"--workdir={tmp_path}") == 2
    assert "one value of each field" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_program_that_is_none_is_refused(tmp_path, capsys):
    assert measured("--programs=abacus", f"--workdir={tmp_path}") == 2
    assert "none of this config's: student" in capsys.readouterr().err


def test_columns_are_named_as_for_a_run(tmp_path, capsys):
    rng = np.random.default_rng(0)
    with (tmp_path / "robot.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["episode", "joint_0", "joint_1", "motor_0", "reward", "terminal"])
        for row in range(100):
            writer.writerow([row // 25, *rng.normal(size=3), "nan" if row == 3 else 1, 0])
    section = {"path": tmp_path / "robot.csv", "observations": "joint_*", "actions": "motor_*"}
    dataset = [f"--config.dataset.{name}={value}" for name, value in section.items()]
    flags = [*dataset, "--config.dataset.drop_invalid=True", "--programs=abacus"]
    assert main(["tskd-jax", "bench", "--config=own:quick", *flags, *SMALL_NETWORKS]) == 2
    said = capsys.readouterr()
    # Of three episodes; the next state of the last row of each is not there.
    assert "own-quick: 72 transitions" in said.out
    assert "--programs=abacus: none of this config's" in said.err
