"""Tests of the collection script: its parts without sbx-rl, and one run of everything with it."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "data" / "collect_dataset.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("collect_dataset", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_episode(length, reward=1.0):
    """An episode of constant reward that ends in a terminal state."""
    points = np.arange(length + 1, dtype=np.float32)[:, None]
    return {
        "observations": points[:-1],
        "actions": np.zeros((length, 1), np.float32),
        "rewards": np.full(length, reward, np.float32),
        "next_observations": points[1:],
        "terminals": np.arange(length) == length - 1,
        "timeouts": np.zeros(length, np.bool_),
    }


def read(path):
    with h5py.File(path) as file:
        return {key: file[key][()] for key in file if key != "metadata"}


def check_d4rl_layout(data, observation_size, action_size):
    """Whole, contiguous episodes with true successors, in D4RL's shapes and types."""
    length = len(data["rewards"])
    assert data["observations"].shape == data["next_observations"].shape
    assert data["observations"].shape == (length, observation_size)
    assert data["actions"].shape == (length, action_size)
    assert data["rewards"].shape == data["terminals"].shape == data["timeouts"].shape == (length,)
    for key in ("observations", "actions", "rewards", "next_observations"):
        assert data[key].dtype == np.float32
        assert np.isfinite(data[key]).all()
    assert data["terminals"].dtype == data["timeouts"].dtype == np.bool_
    ends = data["terminals"] | data["timeouts"]
    assert not (data["terminals"] & data["timeouts"]).any()
    assert ends[-1]
    inside = ~ends[:-1]
    successors = data["next_observations"][:-1]
    np.testing.assert_array_equal(successors[inside], data["observations"][1:][inside])
    assert not (successors[~inside] == data["observations"][1:][~inside]).all(axis=1).any()


def test_split_episodes_takes_the_log_apart_by_environment(script):
    times = np.arange(6, dtype=np.float32)[:, None] + np.array([0.0, 100.0], np.float32)
    terminals, timeouts = np.zeros((2, 6, 2), np.bool_)
    terminals[1, 1] = terminals[3, 0] = timeouts[4, 1] = True
    log = {
        "observations": times[..., None],
        "actions": times[..., None],
        "rewards": times,
        "next_observations": times[..., None] + 1,
        "terminals": terminals,
        "timeouts": timeouts,
    }
    episodes, ends = script.split_episodes(log)
    assert ends == [2, 4, 5]
    assert [episode["rewards"].tolist() for episode in episodes] == [
        [100.0, 101.0],
        [0.0, 1.0, 2.0, 3.0],
        [102.0, 103.0, 104.0],
    ]
    assert [bool(episode["timeouts"][-1]) for episode in episodes] == [False, False, True]
    assert [bool(episode["terminals"][-1]) for episode in episodes] == [True, True, False]


def test_thin_keeps_whole_episodes_evenly(script):
    episodes = [make_episode(10, reward=index) for index in range(100)]
    kept = script.thin(episodes, rows=250)
    assert script.num_rows(kept) == 250
    indices = [episode["rewards"][0] for episode in kept]
    np.testing.assert_allclose(np.diff(indices), 4)


@pytest.mark.parametrize("rows", [0, 300, 5_000, 10**9])
def test_thin_comes_near_the_budget_with_episodes_of_any_length(script, rows):
    lengths = np.random.default_rng(0).integers(5, 200, size=200)
    episodes = [make_episode(length) for length in lengths]
    kept = script.num_rows(script.thin(episodes, rows))
    assert abs(kept - min(rows, lengths.sum())) <= 200


def test_thin_by_return_limits_episodes_of_high_return_and_keeps_the_order(script):
    episodes = [make_episode(10, reward=index) for index in range(100)]
    kept = script.thin_by_return(episodes, rows=400, high_return=800, high_share=0.1)
    returns = [script.episode_return(episode) for episode in kept]
    assert script.num_rows(kept) == pytest.approx(400, abs=20)
    assert 10 * sum(value >= 800 for value in returns) == pytest.approx(40, abs=10)
    assert returns == sorted(returns)


def test_thin_by_return_fills_up_with_others_where_no_return_is_high(script):
    episodes = [make_episode(10) for _ in range(100)]
    kept = script.thin_by_return(episodes, rows=400, high_return=np.inf, high_share=0.1)
    assert script.num_rows(kept) == 400


def test_statistics(script):
    table = script.statistics([make_episode(10, reward=1), make_episode(30, reward=2)])
    assert table["transitions"] == 40
    assert table["episodes"] == table["terminals"] == 2
    assert table["mean_length"] == 20
    assert (table["return_min"], table["return_q50"], table["return_max"]) == (10, 35, 60)


def test_equal_episodes_give_equal_bytes(script, tmp_path):
    paths = [tmp_path / "a.hdf5", tmp_path / "b.hdf5"]
    for path in paths:
        script.write(path, [make_episode(10), make_episode(5)], {"name": "x", "seed": 0})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    data = read(paths[0])
    assert data["rewards"].shape == (15,)
    assert np.flatnonzero(data["terminals"]).tolist() == [9, 14]
    with h5py.File(paths[0]) as file:
        assert file.attrs["name"] == file["metadata/name"][()].decode() == "x"


@pytest.mark.parametrize("env", ["Hopper-v4", "Walker2d-v5"])
def test_random_protocol_needs_no_training(script, tmp_path, env):
    out = tmp_path / "random.hdf5"
    assert script.main([f"--env={env}", "--protocol=random", "--rows=50", f"--out={out}"]) == 0
    data = read(out)
    check_d4rl_layout(data, data["observations"].shape[1], data["actions"].shape[1])
    assert len(data["rewards"]) >= 50


@pytest.mark.parametrize(
    "options",
    [
        ["--env=NoSuchEnv-v0"],
        ["--env=CartPole-v1"],
        ["--rows=0"],
        ["--steps=100", "--checkpoint-interval=200"],
        ["--high-share=2"],
        ["--seed=-1"],
    ],
)
def test_mistakes_are_one_line_and_status_2(script, tmp_path, capsys, options):
    out = tmp_path / "x.hdf5"
    assert script.main(["--protocol=random", f"--out={out}", *options]) == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert not out.exists()


def test_one_training_run_gives_all_protocols(script, tmp_path, capsys):
    pytest.importorskip("sbx", reason="training needs sbx-rl: pip install -e '.[collect]'")
    run = ["--steps=2000", "--checkpoint-interval=1000", "--rows=300", "--seed=3"]
    run.append(f"--workdir={tmp_path / 'run'}")
    size = {}
    for protocol in ("medium-replay", "medium", "expert", "medium-expert", "replay"):
        out = tmp_path / f"{protocol}.hdf5"
        assert script.main([f"--protocol={protocol}", f"--out={out}", *run]) == 0
        data = read(out)
        check_d4rl_layout(data, observation_size=11, action_size=3)
        size[protocol] = len(data["rewards"])
    assert size["medium-replay"] <= 2000
    assert all(300 <= size[name] <= 1300 for name in ("medium", "expert", "medium-expert"))
    assert size["replay"] == pytest.approx(300, abs=100)

    first = (tmp_path / "replay.hdf5").read_bytes()
    assert script.main(["--protocol=replay", f"--out={tmp_path / 'replay.hdf5'}", *run]) == 0
    assert (tmp_path / "replay.hdf5").read_bytes() == first

    # A smaller --steps is the beginning of the run; a larger one is not there.
    arguments = ["--protocol=medium-replay", f"--out={tmp_path / 'x.hdf5'}", *run]
    assert script.main([*arguments, "--steps=1000"]) == 0
    assert script.main([*arguments, "--steps=4000"]) == 2
    assert "another --workdir" in capsys.readouterr().err
    assert script.main([*arguments, "--seed=4"]) == 2
    assert "other settings" in capsys.readouterr().err
