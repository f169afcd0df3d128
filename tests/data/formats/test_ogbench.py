"""OGBench's datasets through an object with its package's interface."""

import sys
import types

import numpy as np
import pytest

from tskd_jax.data import load_dataset
from tskd_jax.data.keys import Keys
from tskd_jax.data.trajectories import COLUMNS
from tskd_jax.errors import DatasetError

STATES = np.arange(8.0)[:, None]
# Two trajectories of four steps; the first reaches its goal in the third, and stays there.
DATA = {
    "observations": STATES,
    "next_observations": STATES + 1,
    "actions": STATES / 10,
    "rewards": np.array([-1, -1, 0, 0, -1, -1, -1, -1.0]),
    "terminals": np.array([0, 0, 0, 1, 0, 0, 0, 1.0]),
    "masks": np.array([1, 1, 0, 0, 1, 1, 1, 1.0]),
}


@pytest.fixture
def package(monkeypatch):
    """A stand-in for the package; gives the names that it was asked for."""

    def install(give):
        asked = []

        def make_env_and_datasets(name):
            asked.append(name)
            return types.SimpleNamespace(close=lambda: None), give(), {}

        module = types.ModuleType("ogbench")
        module.make_env_and_datasets = make_env_and_datasets
        monkeypatch.setitem(sys.modules, "ogbench", module)
        return asked

    return install


def test_a_task(package):
    asked = package(lambda: DATA)
    data = load_dataset("ogbench:cube-single-play-singletask-v0")
    assert asked == ["cube-single-play-singletask-v0"]
    # The fourth step begins in the goal: as an episode of its own it would be perfect.
    stays = [0, 1, 2, 4, 5, 6, 7]
    assert data.lengths.tolist() == [3, 4]
    assert data.terminals.tolist() == [False, False, True] + [False] * 4
    assert data.rewards.tolist() == DATA["rewards"][stays].tolist()
    np.testing.assert_array_equal(data.next_observations, STATES[stays] + 1)


def test_a_trajectory_that_leaves_its_goal_and_one_that_begins_in_it(package, tmp_path):
    masks = np.array([0, 0, 1, 0, 0, 1, 1, 0.0])
    package(lambda: DATA | {"masks": masks})
    data = load_dataset("ogbench:cube-single-play-singletask-v0")
    # Rows 0 | 2, 3 | 4 (of another trajectory) | 5, 6, 7.
    assert data.observations[:, 0].tolist() == [0, 2, 3, 4, 5, 6, 7]
    assert data.lengths.tolist() == [1, 2, 1, 3]
    assert data.terminals[data.ends].all()
    # The same as a file.
    np.savez(tmp_path / "a.npz", **(DATA | {"masks": masks}))
    file = load_dataset(tmp_path / "a.npz")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(file, name), getattr(data, name))


def test_without_a_task_there_is_no_reward(package):
    package(lambda: {key: DATA[key] for key in DATA if key not in ("rewards", "masks")})
    with pytest.raises(DatasetError, match=r"ogbench:cube-single-play-v0: has no rewards; take"):
        load_dataset("ogbench:cube-single-play-v0")


def test_what_the_package_cannot_do(package):
    def fail():
        raise OSError("no network\nand more")

    package(fail)
    with pytest.raises(DatasetError, match="ogbench:nonsense: no network") as caught:
        load_dataset("ogbench:nonsense")
    assert "\n" not in str(caught.value)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ogbench", None)
    with pytest.raises(DatasetError, match=r"pip install 'tskd_jax\[ogbench\]'"):
        load_dataset("ogbench:cube-single-play-singletask-v0")


def test_the_package_names_its_arrays(package):
    asked = package(lambda: DATA)
    with pytest.raises(DatasetError, match="rewards='mine' cannot be chosen: the package names"):
        load_dataset("ogbench:cube-single-play-singletask-v0", keys=Keys(rewards="mine"))
    assert asked == []


def test_a_file_with_flags_of_one_column_and_other_entries(package, tmp_path):
    package(lambda: DATA)
    expected = load_dataset("ogbench:cube-single-play-singletask-v0")
    flags = {key: DATA[key][:, None] for key in ("masks", "terminals")}
    np.savez(tmp_path / "a.npz", **(DATA | flags), seed=3)
    file = load_dataset(tmp_path / "a.npz")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(file, name), getattr(expected, name))


@pytest.mark.parametrize("masks", [np.array(1.0), np.ones(7), np.ones((8, 2))])
def test_a_file_with_masks_of_another_shape(tmp_path, masks):
    np.savez(tmp_path / "a.npz", **(DATA | {"masks": masks}))
    with pytest.raises(DatasetError, match=r"a\.npz: keys 'masks' and 'terminals' have shapes"):
        load_dataset(tmp_path / "a.npz")
