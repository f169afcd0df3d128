"""Trackers: the same names in all of them, and none of them ends a run."""

import importlib.util

import pytest

from tskd_jax.errors import ConfigError
from tskd_jax.main import main
from tskd_jax.run import trackers
from tskd_jax.run.metrics import Metrics

KEY = "0123456789abcdef"


class Recorder:
    """A tracker that remembers; it breaks at a number that it is told to."""

    def __init__(self, breaks_at=None):
        self.calls, self.breaks_at = [], breaks_at

    def log(self, stage, step, metrics):
        if step == self.breaks_at:
            raise OSError("no\nnetwork")
        self.calls.append((stage, step, dict(metrics)))

    def finish(self, results):
        self.calls.append(("finish", dict(results)))

    def close(self):
        self.calls.append(("close",))


def told(tmp_path, monkeypatch, recorder):
    lines = []
    monkeypatch.setitem(trackers.OTHERS, "wandb", lambda folder, config: recorder)
    metrics = Metrics(tmp_path, {"seed": 0}, ("wandb",), lines.append)
    metrics.log("student.bc", KEY, 1, {"loss": 0.5, "rate": 2.0})
    metrics.log("student.bc", KEY, 2, {"loss": 0.25})
    metrics.log("student.bc", "f" * 16, 1, {"loss": 1.0})
    metrics.finish({"score/bc": 12.5})
    metrics.close()
    return lines


def test_what_a_tracker_is_told(tmp_path, monkeypatch):
    recorder = Recorder()
    assert told(tmp_path, monkeypatch, recorder) == []
    assert recorder.calls == [
        ("student.bc", 1, {"loss": 0.5, "rate": 2.0}),
        ("student.bc", 2, {"loss": 0.25}),
        # A second training of the same name is a curve of its own.
        (f"student.bc-{'f' * 12}", 1, {"loss": 1.0}),
        ("finish", {"score/bc": 12.5}),
        ("close",),
    ]


def test_a_tracker_that_fails_is_given_up_in_one_line(tmp_path, monkeypatch):
    recorder = Recorder(breaks_at=2)
    (line,) = told(tmp_path, monkeypatch, recorder)
    assert line.startswith("warning: --track=wandb is given up (OSError: no network)")
    assert recorder.calls == [("student.bc", 1, {"loss": 0.5, "rate": 2.0})]
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 4


def test_a_tracker_that_cannot_begin_is_given_up(tmp_path, monkeypatch):
    lines = []

    def make(folder, config):
        raise RuntimeError("not logged in")

    monkeypatch.setitem(trackers.OTHERS, "mlflow", make)
    metrics = Metrics(tmp_path, {}, ("mlflow",), lines.append)
    for step in (1, 2):
        metrics.log("world", KEY, step, {"loss": 1.0})
    metrics.close()
    assert len(lines) == 1
    assert "not logged in" in lines[0]


def test_an_unknown_tracker_and_one_that_is_not_installed(monkeypatch, capfd):
    with pytest.raises(ConfigError, match="one of wandb, mlflow"):
        trackers.check(["aim"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["tskd-jax", "run", "--config=hopper", "--track=wandb"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "install tskd_jax[wandb]" in line


def in_two_parts(folder, tracker):
    """A training that was killed after its first update and goes on to its second."""
    for step in (1, 2):
        lines = []
        metrics = Metrics(folder, {"seed": 0}, (tracker,), lines.append)
        metrics.log("student.bc", KEY, step, {"loss": 1.0 / step})
        metrics.finish({"score/bc": 12.5})
        metrics.close()
        assert lines == []


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    in_two_parts(tmp_path, "wandb")
    (identity,) = {path.name.rpartition("-")[2] for path in tmp_path.glob("wandb/offline-run-*")}
    assert identity == (tmp_path / "wandb_run_id").read_text()
    (first, *_) = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    content = first.read_bytes()
    for name in (b"student.bc/loss", b"student.bc/step", b"score/bc"):
        assert name in content


def test_mlflow_in_a_folder(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    in_two_parts(tmp_path, "mlflow")
    client = mlflow.tracking.MlflowClient()
    run = (tmp_path / "mlflow_run_id").read_text()
    history = client.get_metric_history(run, "student.bc/loss")
    assert [(one.step, one.value) for one in history] == [(1, 1.0), (2, 0.5)]
    assert client.get_run(run).data.metrics["score/bc"] == 12.5
