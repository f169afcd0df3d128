"""metrics.csv: each step once, whatever was torn or altered before."""

import csv

import pytest

from tskd_jax.run.metrics import Metrics


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return [tuple(row) for row in csv.reader(file)]


@pytest.fixture
def folder(tmp_path):
    metrics = Metrics(tmp_path)
    for step in (1, 2, 3):
        metrics.log("a", step, {"loss": step / 2})
        metrics.log("b", step, {"loss": step / 4})
    metrics.close()
    return tmp_path


def test_rows_behind_a_step_are_forgotten_of_one_training_only(folder):
    Metrics(folder).forget_after("a", 1)
    assert rows_of(folder) == [
        ("stage", "step", "metric", "value"),
        ("a", "1", "loss", "0.5"),
        ("b", "1", "loss", "0.25"),
        ("b", "2", "loss", "0.5"),
        ("b", "3", "loss", "0.75"),
    ]


@pytest.mark.parametrize("torn", ["b,4,lo", "b,4,loss,0.2", "b,4,loss", "b,x,loss,1\n", "\n"])
def test_a_torn_row_is_dropped(folder, torn):
    before = rows_of(folder)
    with (folder / "metrics.csv").open("a") as file:
        file.write(torn)
    metrics = Metrics(folder)
    metrics.forget_after("b", 9)
    metrics.log("b", 5, {"loss": 1.0})
    metrics.close()
    assert rows_of(folder) == [*before, ("b", "5", "loss", "1")]


def test_nothing_to_forget_writes_nothing(folder):
    before = (folder / "metrics.csv").stat()
    Metrics(folder).forget_after("a", 3)
    assert (folder / "metrics.csv").stat().st_mtime_ns == before.st_mtime_ns
    assert (folder / "metrics.csv").stat().st_ino == before.st_ino


def test_tensorboard_is_made_from_the_file(folder):
    metrics = Metrics(folder)
    metrics.forget_after("a", 0)
    metrics.log("a", 1, {"loss": 9.0})
    metrics.close()
    assert len(list((folder / "tensorboard").iterdir())) == 1
