"""`tskd-jax data` and `tskd-jax convert`, as a user types them."""

import json

import numpy as np
import pytest

from tskd_jax.cli import main
from tskd_jax.data import Keys, Trajectories, load_dataset, save_d4rl
from tskd_jax.data.load import load_named
from tskd_jax.data.trajectories import COLUMNS
from tskd_jax.presets import PRESETS

ROWS = ["episode,x,speed,torque,reward,terminal"]
ROWS += [
    f"{e},{e + 0.1 * t},{t},{(-1) ** t},{e},{int(t == 29)}" for e in range(4) for t in range(30)
]
NAMED = [
    "--config.dataset.observations=x,speed",
    "--config.dataset.actions=torque",
]


@pytest.fixture
def run(capfd):
    def run(*words):
        capfd.readouterr()
        status = main(["tskd-jax", *map(str, words)])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "robot.csv"
    path.write_text("\n".join(ROWS))
    return path


def test_the_page(run, table, tmp_path):
    status, out, err = run("data", table, *NAMED, f"--plot={tmp_path / 'a.png'}")
    assert (status, err) == (0, "")
    for words in (
        str(table),
        "own, without a simulator",
        "120 in 4 episodes, of which 4 end in a terminal state and 0 are cut",
        "30 … 30 (median) … 30 steps",
        "100% 90  mean 45",
        "torque",
        "100% at the ends",
        "share 0.1: keeps 1 episodes of 30 transitions, returns from 90",
        "quick",
        f"drawn: {tmp_path / 'a.png'}",
    ):
        assert words in out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob(".*"))


def test_a_picture_replaces_nothing(run, table, tmp_path):
    before = table.read_bytes()
    status, out, err = run("data", table, *NAMED, f"--plot={table}")
    assert (status, out) == (2, "")
    assert err == f"tskd-jax: --plot={table}: name it FILE.png\n"
    (tmp_path / "a.PNG").write_text("a photograph")
    status, out, err = run("data", table, *NAMED, "--plot", tmp_path / "a.PNG")
    assert (status, out) == (2, "")
    assert err.endswith("a.PNG: is there already; remove it, or choose another name\n")
    assert table.read_bytes() == before
    assert (tmp_path / "a.PNG").read_text() == "a photograph"


def test_a_column_is_no_formula(run, table, tmp_path):
    table.write_text(table.read_text().replace("x,speed", "$_{$,speed"))
    columns = ("--config.dataset.observations=$_{$,speed", NAMED[1])
    status, _, err = run("data", table, *columns, f"--plot={tmp_path / 'a.png'}")
    assert (status, err) == (0, "")


def test_json(run, table):
    status, out, _ = run("data", *NAMED, table, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["transitions"] == 120
    assert [one["name"] for one in found["observations"]] == ["x", "speed"]
    assert found["scores"] is None  # nobody knows what a return is worth
    assert found["return_quantiles"]["100"] == 90
    assert set(found["memory"]["teacher"]) == {"paper", "small", "quick"}


def test_the_time_that_a_teacher_takes(run, table, monkeypatch):
    monkeypatch.setattr("tskd_jax.presets.PRESETS", {"quick": PRESETS["quick"]})
    _, out, _ = run("data", *NAMED, table, "--json", "--time")
    seconds = json.loads(out)["seconds"]
    assert list(seconds) == ["quick"]
    # 5,000 updates, none of which takes less than a tenth of a millisecond.
    assert 0.5 < seconds["quick"] < 5000
    _, out, _ = run("data", *NAMED, table, "--time")
    assert "time         of training DDR-I alone, here: quick " in out


@pytest.mark.parametrize(
    "config", [["--config=hopper"], ["--config", "hopper"], ["-config", "hopper"]]
)
def test_the_config_of_a_named_robot(run, config):
    status, out, _ = run("data", *config)
    assert status == 0
    assert "Hopper-v4" in out
    assert "120,162 in 633 episodes" in out
    assert "17.8 on average" in out  # a mean return of 560.1
    assert "101.3 the best" in out  # of 3278
    assert "warning" not in out


def test_warnings_are_on_the_page(run, tmp_path):
    rewards = np.full(40, -1.0)
    terminals = np.arange(40) % 10 == 9
    states = np.random.default_rng(0).normal(size=(40, 2))
    data = Trajectories.from_arrays(states, states[:, :1], rewards, terminals)
    save_d4rl(tmp_path / "a.hdf5", data)
    status, out, _ = run("data", tmp_path / "a.hdf5", "--config=own:paper")
    assert status == 0
    assert "warning: " in out
    assert "all 4 returns are -10: no episode is better than another" in out
    assert "no reward is above 0, but imagination is asked for y=0.9" in out
    # The presets for two cores aim at the best advantages, which are there whatever rewards are.
    _, out, _ = run("data", tmp_path / "a.hdf5", "--config=own:quick")
    assert "aims at advantages of rank 1" in out
    assert "no reward is above 0" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data"], "no dataset is named"),
        (["data", "a.csv", "b.csv"], "takes one file or name, not also 'b.csv'"),
        (["data", "absent.csv"], "no such file"),
        (["data", "absent.csv", "--config=hopper", "--config.dataset.colour=red"], "did you mean"),
        (["convert", "a.csv"], "takes two words"),
        (["convert", "a.csv", "b.csv"], "b.csv: name it FILE.hdf5 or FILE.h5"),
        (["convert", "absent.csv", "b.hdf5"], "no such file"),
        (["convert", "absent.csv", "/dev/null/b.hdf5"], "b.hdf5: cannot be written ("),
        (["convert", "absent.csv", "~nobody-of-this-name/b.hdf5"], "no such file"),
        (["data", "absent.csv", "--plot=~nobody-of-this-name/b.txt"], "b.txt: name it FILE.png"),
    ],
)
def test_what_cannot_be_done(run, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert expected in err
    assert not list(tmp_path.iterdir())


def test_convert(run, table, tmp_path):
    status, out, _ = run("convert", table, tmp_path / "out.hdf5", *NAMED)
    assert status == 0
    assert "120 transitions, 4 episodes" in out
    converted = load_dataset(tmp_path / "out.hdf5")
    given = load_dataset(table, keys=Keys(observations="x,speed", actions="torque"))
    for name in (*COLUMNS, "lengths"):
        np.testing.assert_array_equal(getattr(converted, name), getattr(given, name))
    assert converted.observations[31].tolist() == pytest.approx([1.1, 1.0])
    _, names = load_named(tmp_path / "out.hdf5")
    assert names == {"observations": ("x", "speed"), "actions": ("torque",)}
    _, names = load_named(tmp_path / "out.hdf5", keys=Keys(actions="next_observations"))
    assert names == {"observations": ("x", "speed")}
    status, _, err = run("convert", table, tmp_path / "out.hdf5", *NAMED)
    assert status == 2
    assert "is there already" in err


def test_help_about_fetching_is_that_of_the_command(capsys):
    assert main(["tskd-jax", "data", "get", "--help"]) == 0
    assert "tskd-jax data get NAME" in capsys.readouterr().out
