"""A robot of one's own: data of any size, with a simulator of Gymnasium or with none at all."""

import json
import re

import numpy as np
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.cli.students import without_folder
from tskd_jax.data import Keys, load_dataset
from tskd_jax.data.formats import d4rl
from tskd_jax.envs.simulator import record
from tskd_jax.envs.tasks import Task
from tskd_jax.main import main
from tskd_jax.policy import Bounds, load_contract, load_policy

OWN = f"--config={ROOT / 'configs/own.py'}"
FEW = (
    *(flag for flag in TINY_FLAGS if "referee.episodes" not in flag),
    "--config.ablations=False",
    "--config.referee.episodes=3",
)


@pytest.mark.slow
def test_the_example_of_the_docs(tmp_path, capsys, monkeypatch):
    """A robot without a simulator: what docs/own-data.md shows, with tiny models."""
    page = (ROOT / "docs/own-data.md").read_text()
    monkeypatch.chdir(tmp_path)
    workdir = tmp_path / "runs/joints"
    recording, trying = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(recording, {})
    columns = ("--config.dataset.observations=joint_*", "--config.dataset.actions=motor_*")
    paths = (*columns, "--config.dataset.path=robot.csv", "--workdir=runs/joints")
    paths += ("--config.environment.control_hz=50",)
    assert main(["tskd-jax", OWN, *paths, *FEW, "--config.methods=bc,tskd"]) == 0
    table = capsys.readouterr().out
    assert "robot.csv: return in the learned world, mean ± standard error, 2 seeds × 3" in table
    summary = json.loads((workdir / "summary.json").read_text())
    assert list(summary["scores"]) == ["bc", "tskd"]
    assert not (workdir / "returns.npz").exists()
    judged = np.load(workdir / "referee.npz")["bc"]
    assert summary["scores"]["bc"]["mean"] == pytest.approx(judged.mean())
    assert (workdir / "scores.png").stat().st_size > 5000
    # A tenth of the episodes is held out, and what students do in them is told by dimension.
    kept = summary["methods"]["bc"]["data"][0]
    assert (kept["episodes"], summary["dataset"]["episodes"]) == (270, 300)
    assert "action error (better half)" in table
    errors = summary["action_errors"]["bc"]
    assert len(errors["all"]) == len(errors["better_half"]) == 6
    assert all(0.5 < error < 1.5 for error in errors["all"])
    assert 0 <= summary["within_data"]["tskd"] <= 1
    # Who has left what the world knows counts where nothing else judges.
    left = np.load(workdir / "referee_left.npz")["tskd"].mean()
    assert summary["scores"]["tskd"]["left"] == pytest.approx(left)
    (title,) = (line for line in table.splitlines() if line.startswith("method"))
    assert " left " in title
    # The student acts, each motor within what was recorded of it.
    keys = Keys(observations="joint_*", actions="motor_*")
    recorded = load_dataset("robot.csv", keys=keys)
    assert recorded.observations.shape[1] == 14
    actions = load_policy(workdir / "student.npz")(10 * recorded.observations)
    assert actions.shape == recorded.actions.shape
    assert (actions >= recorded.actions.min(0) - 1e-5).all()
    assert (actions <= recorded.actions.max(0) + 1e-5).all()
    contract = load_contract(workdir / "student.npz")
    assert contract.observation_names == tuple(f"joint_{i}" for i in range(14))
    assert contract.action_names == tuple(f"motor_{i}" for i in range(6))
    assert (contract.score_unit, contract.score_measured_in) == ("return", "learned world")
    judged = np.load(workdir / "referee.npz")["tskd"][contract.seed]
    assert contract.score == pytest.approx(judged.mean())
    assert (contract.environment, contract.control_hz, contract.dataset) == ("", 50, "robot.csv")
    # The page's other script tries the students on the robot.
    trying = trying.replace('"filtered_bc", "tskd_one_step"', '"tskd"')
    exec(trying.replace("range(5)", "range(2)"), {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["bc", "tskd"]


def test_a_simulator_of_gymnasium(tmp_path, capsys):
    name = "InvertedDoublePendulum-v5"
    task = Task("own", name, 9, Bounds((-1.0,), (1.0,)), 1000)
    rng = np.random.default_rng(0)
    recorded = record(lambda states, *_: rng.uniform(-1, 1, (len(states), 1)), task, range(20))
    d4rl.write(tmp_path / "data.hdf5", recorded, {})
    flags = (
        *(f"--config.dataset.path={tmp_path / 'data.hdf5'}", f"--workdir={tmp_path / 'run'}"),
        *(f"--config.environment.gymnasium_id={name}", "--config.methods=bc"),
        "--config.referee.episodes=0",
    )
    assert main(["tskd-jax", OWN, *FEW, *flags]) == 0
    assert (
        "data.hdf5: return, mean ± standard error, 2 seeds × 2 episodes" in capsys.readouterr().out
    )
    returns = np.load(tmp_path / "run/returns.npz")["bc"]
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["scores"]["bc"]["mean"] == pytest.approx(returns.mean())
    # Nobody says what ends an episode there: it is learned, in a stage of its own.
    assert recorded.terminals.sum() == 20
    assert "termination" in summary["seconds"]


def test_a_contract_does_not_say_where_the_data_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/robot.csv").write_text("")
    for path in ("~/secret/robot.csv", tmp_path / "secret/robot.csv", "secret/robot.csv"):
        assert without_folder(str(path)) == "robot.csv"
    assert without_folder("~/gone/robot.csv") == "robot.csv"
    assert without_folder("~/secret/") == "secret"
    for name in ("hopper-medium-v2", "mujoco/hopper/medium-v0", "d4rl:hopper-medium-v2"):
        assert without_folder(name) == name


def test_nothing_named(tmp_path, capsys):
    assert main(["tskd-jax", OWN, *FEW, f"--workdir={tmp_path / 'run'}"]) == 2
    assert "--config.dataset.path" in capsys.readouterr().err
