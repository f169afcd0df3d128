"""The paper's figures of scores: which runs they ask for, and that the same rows draw the same."""

import csv
import signal
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import ROOT, import_script, run_script

from experiments.paper.datasets import parse_dataset
from tskd_jax.config import default_config, finalize
from tskd_jax.errors import DivergenceError
from tskd_jax.machine.signals import Interrupted
from tskd_jax.training.batching import uniform_rows
from tskd_jax.training.training import Training, adam


@pytest.mark.parametrize("name", ["table1", "figure3", "figure4", "figure5", "figure6"])
def test_each_is_a_command(name):
    """The flags of what it imports are not its own."""
    command = [sys.executable, "-m", f"experiments.paper.{name}", "--helpshort"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert f"python -m experiments.paper.{name}" in shown


@pytest.fixture
def asked(monkeypatch):
    """What is asked of the runs, each of which scores ten points more than the one before."""
    found = []

    def score(dataset, wanted, _request):
        found.append((dataset.label, wanted.method, dict(wanted.changes)))
        name = wanted.name or wanted.method
        return {"dataset": dataset.label, "name": name, "mean": 10.0 * len(found), "stderr": 1.0}

    runs = import_script("paper.runs")
    monkeypatch.setattr(runs, "score", score)
    monkeypatch.setattr(runs, "config_of", lambda _dataset, _wanted: default_config())
    return found


def test_figure_3(asked, tmp_path):
    figure3 = import_script("paper.figure3")
    rows, _ = figure3.collect(["hopper", "walker2d"], None)
    assert asked[:3] == [
        ("hopper-embedded", "tskd", {"stitching.enabled": False}),
        ("hopper-embedded", "mbts", {}),
        ("hopper-embedded", "tskd", {}),
    ]
    assert [row["mean"] for row in rows] == [10, 20, 30, 40, 50, 60]
    check_drawing(figure3, rows, tmp_path)


def test_figure_4(asked, tmp_path):
    figure4 = import_script("paper.figure4")
    rows, _ = figure4.collect(["hopper"], [0, 60, 120], None)
    assert [changes for *_, changes in asked] == [
        {"imagination.enabled": False},
        {"imagination.trajectories": 60},
        {"imagination.trajectories": 120},
    ]
    assert len({row["name"] for row in rows}) == 3
    check_drawing(figure4, rows, tmp_path)


def test_a_run_that_fails_does_not_stop_the_others(asked, monkeypatch, capfd):
    runs = import_script("paper.runs")
    score, seen = runs.score, []

    def failing(dataset, wanted, request):
        if wanted.method == "iql":
            raise DivergenceError("loss is nan\nand more")
        if wanted.method == "cql":
            raise ValueError("shapes")
        return score(dataset, wanted, request)

    monkeypatch.setattr(runs, "score", failing)
    pairs = [
        (parse_dataset("hopper"), runs.Wanted(method))
        for method in ("bc", "iql", "cql", "tskd", "mbts")
    ]
    dataset = parse_dataset("hopper")
    about = {"environment": "hopper", "sha256": runs.content_of(finalize(default_config())[0])}
    known = {(dataset.label, "mbts"): {"name": "mbts", "mean": 7.0} | about}
    rows, failures = runs.scores(
        pairs, None, known, lambda rows: seen.append([row["name"] for row in rows])
    )
    assert [row["name"] for row in rows] == ["bc", "tskd", "mbts"]
    # A table that is killed loses no row that it knew before.
    assert seen == [["bc", "mbts"], ["bc", "tskd", "mbts"], ["bc", "tskd", "mbts"]]
    assert failures == [
        "hopper-embedded, iql: loss is nan",
        "hopper-embedded, cql: ValueError: shapes",
    ]
    assert runs.report_failures([]) == 0
    assert runs.report_failures(failures) == 2
    assert "2 of the runs failed" in capfd.readouterr().out


def test_a_signal_stops_all_runs(asked, monkeypatch):
    runs = import_script("paper.runs")

    def stopped(*_):
        raise Interrupted(signal.SIGINT, "after bc")

    monkeypatch.setattr(runs, "score", stopped)
    with pytest.raises(Interrupted):
        runs.scores([(parse_dataset("hopper"), runs.Wanted("bc"))], None)


@pytest.mark.slow
def test_figure_5(tmp_path):
    argv = ["--datasets=hopper", "--updates=12", "--points=2", "--seeds=0,1", "--measured=20"]
    argv += ["--batch_size=8", "--set=reward_generator.features=8", f"--results={tmp_path}"]
    argv += ["--set=reward_sampling.steps=2"]
    run_script("paper.figure5", *argv)
    with (tmp_path / "quick.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["updates"]) for row in rows] == [
        (model, updates) for model in ("DDR-II", "MLP", "WGAN") for updates in ("6", "12")
    ]
    assert len({row["reward_variance"] for row in rows}) == 1
    assert len({row["mse"] for row in rows}) == 6
    assert (tmp_path / "quick.svg").stat().st_size > 5000
    # Another dataset's models are trained, those that stand there are not.
    before = (tmp_path / "quick.csv").read_text()
    changed = before.replace(rows[0]["mse"], "0.125")
    (tmp_path / "quick.csv").write_text(changed)
    run_script("paper.figure5", *argv)
    assert (tmp_path / "quick.csv").read_text() == changed != before


def test_figure_5_reads_only_what_was_measured_alike(monkeypatch):
    figure5 = import_script("paper.figure5")
    flags = {"SCALE": "quick", "SEED_AXIS": "student", "SEEDS": ["0", "1"], "SET": []}
    own = {"UPDATES": 12, "POINTS": 1, "BATCH": 8, "MEASURED": 20}
    for module, values in ((figure5.runs, flags), (figure5, own)):
        for name, value in values.items():
            monkeypatch.setattr(module, name, SimpleNamespace(value=value))
    monkeypatch.setattr(figure5, "MODELS", {"MLP": lambda *_: None})
    monkeypatch.setattr(figure5, "data_of", lambda *_: (None, None, None))
    monkeypatch.setattr(figure5, "measured", lambda about, *_: [about | {"updates": 12}])
    dataset = parse_dataset("hopper")
    ((made,),) = figure5.rows_of(dataset, [])
    kept = made | {"mse": 0.5}
    assert list(figure5.rows_of(dataset, [kept])) == [[kept]]
    for name, value in {"SEEDS": ["0", "2"], "SET": ["wgan.latents=1"], "SCALE": "small"}.items():
        with monkeypatch.context() as changed:
            changed.setattr(figure5.runs, name, SimpleNamespace(value=value))
            ((again,),) = figure5.rows_of(dataset, [kept])
        assert "mse" not in again


def test_figures_3_and_6_write_files_of_their_own(asked, monkeypatch, tmp_path):
    figure3 = import_script("paper.figure3")
    values = {"DATASETS": None, "NAME": None, "RESULTS": str(tmp_path)}
    for name, value in values.items():
        monkeypatch.setattr(figure3, name, SimpleNamespace(value=value))
    monkeypatch.setattr(figure3.runs, "SCALE", SimpleNamespace(value="quick"))
    for figure, robots in (("figure3", ("hopper",)), ("figure6", ("walker2d",))):
        figure3.main(None, figure, robots)
    found = sorted(path.name for path in tmp_path.glob("*.csv"))
    assert found == ["figure3-quick.csv", "figure6-quick.csv"]


def test_the_error_over_training_goes_on_where_it_was(tmp_path):
    """A mark of a training is the end of a shorter one, to the bit."""
    figure5 = import_script("paper.figure5")
    rng = np.random.default_rng(0)
    data = rng.normal(size=(40, 2)).astype(np.float32)
    plan = Training(
        name="line",
        init=lambda key: {"w": jax.random.normal(key, (1,))},
        loss=lambda params, _ema, batch, _key: jnp.square(batch @ jnp.ones(2) - params["w"]).mean(),
        draw=lambda rows, key: uniform_rows(rows, key, 4),
        data=data,
        optimizer=adam(0.1, "constant", 0),
        steps=1,
        keys=jax.random.split(jax.random.key(0), 2),
    )

    def predict(fitted, place, held, _key):
        return np.full(held.size, float(fitted.params["w"][place, 0]))

    held = SimpleNamespace(rewards=np.zeros(3), size=3)
    found = list(figure5.errors_over_training(plan, predict, held, [2, 6]))
    once = list(figure5.errors_over_training(plan, predict, held, [6]))
    assert found[1] == once[0] != found[0]


def check_drawing(module, rows, folder):
    """The same rows draw the same, others something else."""
    module.draw(rows, folder / "drawn")
    first = [(folder / f"drawn.{kind}").read_bytes() for kind in ("svg", "png")]
    module.draw(rows, folder / "drawn")
    assert [(folder / f"drawn.{kind}").read_bytes() for kind in ("svg", "png")] == first
    module.draw([row | {"mean": 5.0} for row in rows], folder / "drawn")
    assert (folder / "drawn.svg").read_bytes() != first[0]
