"""Tests of names and places, and of the dataset that comes with the package."""

import hashlib

import h5py
import numpy as np
import pytest

from tskd_jax.data import load
from tskd_jax.data.arrays import Columns
from tskd_jax.data.formats import d4rl
from tskd_jax.data.load import Config, content_hash, load_dataset, resolve
from tskd_jax.data.trajectories import describe, from_columns
from tskd_jax.envs.entries import get_task
from tskd_jax.envs.simulator import step_from
from tskd_jax.errors import DatasetError

BUNDLED = "hopper-sac-replay"


@pytest.fixture(autouse=True)
def no_caches(monkeypatch, tmp_path):
    """Neither the tester's own datasets nor the network play a part."""
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def write_small(path, reward: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = from_columns(
        observations=np.zeros((2, 1)),
        actions=np.zeros((2, 1)),
        rewards=[reward, reward],
        next_observations=np.zeros((2, 1)),
        terminals=[False, True],
        lengths=[2],
    )
    d4rl.write(path, data, {})


def write_small_minari(path, reward: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        group = file.create_group("episode_0")
        group["observations"], group["actions"] = np.zeros((3, 1)), np.zeros((2, 1))
        group["rewards"], group["terminations"] = np.full(2, reward), [False, True]


def test_a_path_goes_before_the_name():
    assert Config().source == BUNDLED
    assert Config(name="hopper-medium-v2").source == "hopper-medium-v2"
    assert Config(name="hopper-medium-v2", path="mine.hdf5").source == "mine.hdf5"


@pytest.mark.parametrize("name", ["a.hdf5", "b.h5", "named like nothing"])
def test_a_path(tmp_path, name):
    write_small(tmp_path / name, 3)
    assert load_dataset(tmp_path / name).rewards.tolist() == [3, 3]
    assert load_dataset(str(tmp_path / name)).rewards.tolist() == [3, 3]


def test_a_suffix_in_upper_case(tmp_path):
    (tmp_path / "a.CSV").write_text(
        "observation_0,action_0,reward,terminal\n0,0,3,0\n0,0,3,1\n", encoding="utf-8"
    )
    assert load_dataset(tmp_path / "a.CSV").rewards.tolist() == [3, 3]
    np.savez(tmp_path / "a.npz", **d4rl.to_arrays(load_dataset(tmp_path / "a.CSV")))
    (tmp_path / "a.npz").rename(tmp_path / "a.NPZ")
    assert load_dataset(tmp_path / "a.NPZ").rewards.tolist() == [3, 3]
    (tmp_path / "a.NPZ").unlink()
    assert load_dataset(tmp_path).rewards.tolist() == [3, 3]  # a folder of one episode


def test_a_path_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_small(tmp_path / "a.hdf5", 4)
    assert load_dataset("~/a.hdf5").rewards.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("hopper-medium-v2", "hopper_medium-v2.hdf5"),
        ("halfcheetah-medium-replay-v2", "halfcheetah_medium_replay-v2.hdf5"),
        ("walker2d-medium-expert-v2", "walker2d_medium_expert-v2.hdf5"),
    ],
)
def test_a_d4rl_name(tmp_path, name, file):
    write_small(tmp_path / "d4rl" / file, 5)
    assert resolve(name) == tmp_path / "d4rl" / file
    assert load_dataset(name).rewards.tolist() == [5, 5]


def test_a_minari_id(tmp_path):
    path = tmp_path / "minari" / "mujoco" / "hopper" / "medium-v0" / "data" / "main_data.hdf5"
    write_small_minari(path, 6)
    assert resolve("mujoco/hopper/medium-v0") == path
    assert load_dataset("mujoco/hopper/medium-v0").rewards.tolist() == [6, 6]


def test_a_path_to_a_minari_file(tmp_path):
    write_small_minari(tmp_path / "main_data.hdf5", 7)
    assert load_dataset(tmp_path / "main_data.hdf5").rewards.tolist() == [7, 7]


def test_default_places(tmp_path, monkeypatch):
    monkeypatch.delenv("D4RL_DATASET_DIR")
    monkeypatch.delenv("MINARI_DATASETS_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    write_small(tmp_path / ".d4rl" / "datasets" / "hopper_medium-v2.hdf5", 8)
    write_small_minari(tmp_path / ".minari" / "datasets" / "a" / "b-v0/data/main_data.hdf5", 9)
    assert load_dataset("hopper-medium-v2").rewards.tolist() == [8, 8]
    assert load_dataset("a/b-v0").rewards.tolist() == [9, 9]


def test_not_found_lists_the_places(tmp_path):
    with pytest.raises(DatasetError, match="no such file") as caught:
        load_dataset("hopper-medium-v2")
    message = str(caught.value)
    assert "\n" not in message
    for place in (
        "'hopper-medium-v2'",
        str(tmp_path / "d4rl" / "hopper_medium-v2.hdf5"),
        str(tmp_path / "minari" / "hopper-medium-v2" / "data" / "main_data.hdf5"),
        BUNDLED,
    ):
        assert place in message


def test_a_missing_file_is_looked_for_in_one_place(tmp_path):
    with pytest.raises(DatasetError) as caught:
        load_dataset(tmp_path / "absent.hdf5")
    assert str(tmp_path / "absent.hdf5") in str(caught.value)
    assert str(tmp_path / "minari") not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "no dataset is named"),
        (".", "no episode in it"),
        ("../x", "no such file"),
        ("~nobody-of-this-name/x.csv", "no such file"),
    ],
)
def test_what_is_no_dataset(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves its log wherever it warns
    with pytest.raises(DatasetError, match=words):
        load_dataset(name)


def test_d4rl_prefix_asks_the_package(monkeypatch):
    asked = []
    some = load_dataset(BUNDLED).select(np.arange(2))
    columns = Columns(d4rl.to_arrays(some))
    monkeypatch.setattr(d4rl, "read_with_package", lambda name, *_: asked.append(name) or columns)
    np.testing.assert_array_equal(load_dataset("d4rl:hopper-medium-v2").rewards, some.rewards)
    assert asked == ["hopper-medium-v2"]


def test_content_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"tskd")
    assert content_hash(tmp_path / "a") == hashlib.sha256(b"tskd").hexdigest()


# Name -> its task, least rows, and for returns: the worst below, the best above, the median below.
EMBEDDED = {
    "hopper-sac-replay": ("hopper", 100_000, (50, 2500, 1000)),
    "halfcheetah-sac-replay": ("halfcheetah", 60_000, (0, 5000, 4000)),
    "walker2d-sac-replay": ("walker2d", 80_000, (50, 3000, 1000)),
}


@pytest.fixture(scope="module", params=EMBEDDED)
def embedded(request):
    """(name, task, data) of each dataset that comes with the package."""
    assert set(EMBEDDED) == set(load.BUNDLED)
    return request.param, get_task(EMBEDDED[request.param][0]), load_dataset(request.param)


def test_embedded_file_is_small_and_not_called_d4rl(embedded):
    path = resolve(embedded[0])
    assert path.stat().st_size <= 12 * 10**6
    with h5py.File(path) as file:
        names = (embedded[0], path.name, str(file.attrs["name"]))
    assert not any("d4rl" in name.lower() for name in names)
    assert names[0] == names[2]


def test_embedded_size_and_returns(embedded):
    name, task, data = embedded
    _, rows, (worst, best, middle) = EMBEDDED[name]
    assert data.size >= rows
    assert data.observations.shape[1] == task.state_size
    assert data.actions.shape[1] == task.action_size
    assert np.abs(data.actions).max() <= 1
    # Poor episodes and a few good ones: there is something to stitch and something to filter.
    returns = data.returns()
    assert returns.min() < worst
    assert returns.max() >= best
    assert np.median(returns) < middle
    assert data.lengths.max() <= 1000
    assert describe(data)["transitions"] == data.lengths.sum() == data.size


def test_embedded_next_states_follow(embedded):
    _, _, data = embedded
    inside = np.ones(data.size, bool)
    inside[data.ends] = False
    rows = np.flatnonzero(inside)
    np.testing.assert_array_equal(data.next_observations[rows], data.observations[rows + 1])
    assert not data.terminals[rows].any()


def test_embedded_episodes_end_where_the_task_says(embedded):
    _, task, data = embedded
    alive = np.asarray(task.alive(data.next_observations))
    # The observation clips velocities, and single precision rounds: a bound is met to about 1e-6.
    np.testing.assert_array_equal(~alive, data.terminals)
    truncated = ~data.terminals[data.ends]
    assert (data.lengths[truncated] == task.episode_limit).all()


def test_embedded_transitions_are_the_simulators(embedded):
    # Clipped velocities hide part of the state, and contacts amplify what rounding leaves of it:
    # the median must be at rounding, and all but a few within a thousandth.
    _, task, data = embedded
    rows = np.random.default_rng(0).permutation(data.size)
    rows = rows[(np.abs(data.observations[rows]) != 10).all(1)][:40]
    states, actions = data.observations[rows], data.actions[rows]
    following, _ = step_from(task, states, actions)
    error = np.abs(following - data.next_observations[rows]).max(1)
    moved = np.abs(states - data.next_observations[rows]).max(1)
    assert np.median(error) < 1e-4
    assert (error < 1e-3).mean() >= 0.9
    assert np.median(moved) > 0.1


def test_the_files_that_are_shipped_are_those_of_the_embedded_names():
    folder = resolve(BUNDLED).parent
    assert {path.name for path in folder.glob("*.hdf5")} == set(load.BUNDLED.values())
    assert sum(path.stat().st_size for path in folder.glob("*")) < 36 * 10**6
