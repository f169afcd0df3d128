"""OGBench's datasets through an object with its package's interface."""

import sys
import types

import numpy as np
import pytest

from tskd_jax.data import load_dataset
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
    assert data.lengths.tolist() == [3, 1, 4]
    assert data.terminals.tolist() == [False, False, True, True] + [False] * 4
    assert data.rewards.tolist() == DATA["rewards"].tolist()
    np.testing.assert_array_equal(data.next_observations, STATES + 1)


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
