"""metrics.csv: each step once, whatever was torn or altered before."""

import csv

import pytest

from tskd_jax.run.metrics import Metrics, read_rows

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
SHORT, OTHER_SHORT = KEY[:12], OTHER[:12]


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


@pytest.fixture
def folder(tmp_path):
    metrics = Metrics(tmp_path)
    for step in (1, 2, 3):
        metrics.log("a", KEY, step, {"loss": step / 2})
        metrics.log("b", KEY, step, {"loss": step / 4})
        metrics.log("a", OTHER, step, {"loss": step / 8})
    metrics.close()
    return tmp_path


def test_rows_behind_a_step_are_forgotten_of_one_training_only(folder):
    Metrics(folder).forget_after("a", KEY, 1)
    assert rows_of(folder) == [
        ("stage", "key", "step", "metric", "value"),
        ("a", SHORT, "1", "loss", "0.5"),
        ("b", SHORT, "1", "loss", "0.25"),
        ("a", OTHER_SHORT, "1", "loss", "0.125"),
        ("b", SHORT, "2", "loss", "0.5"),
        ("a", OTHER_SHORT, "2", "loss", "0.25"),
        ("b", SHORT, "3", "loss", "0.75"),
        ("a", OTHER_SHORT, "3", "loss", "0.375"),
    ]


@pytest.mark.parametrize(
    "torn",
    [
        *("b,k,4,lo", "b,k,4,loss,0.2", "b,k,4,loss", "b,k,x,loss,1\n", "b,4,loss,1\n", "\n"),
        f"b,{'k' * 200_000},4,loss,1\n",  # longer than `csv` allows
        f"b,k,{10**30},loss,1\n",  # a step that TensorBoard cannot count to
        "b,k,4,lo\0,\n",
    ],
    ids=range(9),
)
def test_a_torn_row_is_dropped(folder, torn):
    before = rows_of(folder)
    with (folder / "metrics.csv").open("a") as file:
        file.write(torn)
    metrics = Metrics(folder)
    metrics.forget_after("b", KEY, 9)
    metrics.log("b", KEY, 5, {"loss": 1.0})
    metrics.close()
    assert rows_of(folder) == [*before, ("b", SHORT, "5", "loss", "1")]


def test_a_torn_row_takes_none_after_it_away(folder):
    before = rows_of(folder)
    with (folder / "metrics.csv").open("a") as file:
        file.write('b,k,4,"loss,1\nb,k,5,loss,1\nb,k,6,lo"ss,1\nb,k,7,loss,1\n')
    steps = [row[2] for row in read_rows(folder / "metrics.csv")[len(before) - 1 :]]
    assert steps == ["5", "6", "7"]


def test_nothing_to_forget_writes_nothing(folder):
    before = (folder / "metrics.csv").stat()
    Metrics(folder).forget_after("a", KEY, 3)
    assert (folder / "metrics.csv").stat().st_mtime_ns == before.st_mtime_ns
    assert (folder / "metrics.csv").stat().st_ino == before.st_ino


def test_tensorboard_is_made_from_the_file(folder):
    metrics = Metrics(folder)
    metrics.forget_after("a", KEY, 0)
    metrics.log("a", KEY, 1, {"loss": 9.0})
    metrics.close()
    assert len(list((folder / "tensorboard").iterdir())) == 1


def test_trainings_of_one_name_have_curves_of_their_own(folder):
    drawn = []

    class Board:
        def log(self, stage, step, metrics):
            drawn.extend((f"{stage}/{name}", value, step) for name, value in metrics.items())

    metrics = Metrics(folder)
    metrics._board = Board()
    metrics.log("a", KEY, 4, {"loss": 1.0})
    metrics.log("a", OTHER, 4, {"loss": 2.0})
    assert drawn == [("a/loss", 1.0, 4), (f"a-{OTHER_SHORT}/loss", 2.0, 4)]
