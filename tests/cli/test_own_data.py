"""A robot of one's own: data of any size, with a simulator of Gymnasium or with none at all."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.data.formats import d4rl
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.simulator import record
from tskd_jax.envs.tasks import Task
from tskd_jax.main import main
from tskd_jax.policy import Bounds, load_policy

OWN = f"--config={ROOT / 'configs/own.py'}"
FEW = (
    *(flag for flag in TINY_FLAGS if "referee.episodes" not in flag),
    "--config.ablations=False",
    "--config.referee.episodes=3",
)


def robot() -> Trajectories:
    """12 episodes of a linear system of 14 states and 6 joints, each with its own range."""
    rng, high = np.random.default_rng(0), np.arange(1, 7) / 3
    push, lengths = 0.1 * rng.normal(size=(6, 14)), rng.integers(25, 40, 12)
    columns = {name: [] for name in ("observations", "actions", "rewards", "next_observations")}
    for length in lengths:
        state = rng.normal(size=14)
        for action in rng.uniform(-high, 0.5 * high, size=(length, 6)):
            following = 0.95 * state + action @ push
            row = (state, action, -np.abs(following).mean(), following)
            for name, value in zip(columns, row, strict=True):
                columns[name].append(value)
            state = following
    return from_columns(
        terminals=np.zeros(sum(lengths), bool),
        lengths=lengths,
        **{name: np.array(column) for name, column in columns.items()},
    )


def write_table(path: Path, data: Trajectories) -> None:
    """A table with one row for each step, whose columns are named as the robot has it."""
    joints = [f"joint_{i}" for i in range(14)]
    columns = ["episode", *joints, *(f"action_{i}" for i in range(6)), "reward", "terminal"]
    rows = (
        [episode, *map(repr, map(float, (*state, *action, reward))), int(terminal)]
        for episode, state, action, reward, terminal in zip(
            *(data.episode_of, data.observations, data.actions, data.rewards, data.terminals),
            strict=True,
        )
    )
    lines = [columns, *rows]
    path.write_text("\n".join(",".join(map(str, line)) for line in lines))


def test_a_robot_without_a_simulator(tmp_path, capsys):
    recorded = robot()
    write_table(tmp_path / "robot.csv", recorded)
    paths = (
        *(f"--config.dataset.path={tmp_path / 'robot.csv'}", f"--workdir={tmp_path / 'run'}"),
        "--config.dataset.observations=joint_*",
    )
    assert main(["tskd-jax", OWN, *paths, *FEW, "--config.methods=bc,tskd"]) == 0
    table = capsys.readouterr().out
    assert "robot.csv: return in the learned world, mean ± standard error, 2 seeds × 3" in table
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert list(summary["scores"]) == ["bc", "tskd"]
    assert not (tmp_path / "run/returns.npz").exists()
    judged = np.load(tmp_path / "run/referee.npz")["bc"]
    assert summary["scores"]["bc"]["mean"] == pytest.approx(judged.mean())
    assert (tmp_path / "run/scores.png").stat().st_size > 5000
    # The student acts, each joint within what was recorded of it.
    policy = load_policy(tmp_path / "run/student.npz")
    actions = policy(10 * recorded.observations)
    assert actions.shape == recorded.actions.shape
    assert (actions >= recorded.actions.min(0) - 1e-5).all()
    assert (actions <= recorded.actions.max(0) + 1e-5).all()


def test_a_simulator_of_gymnasium(tmp_path, capsys):
    name = "InvertedDoublePendulum-v5"
    task = Task("own", name, 9, Bounds((-1.0,), (1.0,)), 1000)
    rng = np.random.default_rng(0)
    recorded = record(lambda states, _: rng.uniform(-1, 1, (len(states), 1)), task, range(20))
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


def test_nothing_named(tmp_path, capsys):
    assert main(["tskd-jax", OWN, *FEW, f"--workdir={tmp_path / 'run'}"]) == 2
    assert "--config.dataset.path" in capsys.readouterr().err
