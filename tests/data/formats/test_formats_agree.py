"""The same rollouts in every format give the same trajectories.

Over 300 lines: a test or two for each format.
"""

import csv
import json

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tskd_jax.data import Trajectories, load_dataset
from tskd_jax.data.arrays import from_arrays
from tskd_jax.data.checks import DatasetChecks
from tskd_jax.data.formats import d4rl
from tskd_jax.data.keys import Keys
from tskd_jax.data.load import content_hash, resolve
from tskd_jax.data.trajectories import COLUMNS
from tskd_jax.errors import DatasetError

LENGTHS, STATES, ACTIONS = (7, 4, 9), 3, 2


@pytest.fixture
def rollouts() -> list[dict[str, np.ndarray]]:
    """Three episodes with T + 1 observations: the second ends in a terminal state."""
    rng = np.random.default_rng(0)
    return [
        {
            "observations": rng.normal(size=(n + 1, STATES)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (n, ACTIONS)).astype(np.float32),
            "rewards": rng.normal(size=n).astype(np.float32),
            "terminals": (np.arange(n) == n - 1) & (index == 1),
        }
        for index, n in enumerate(LENGTHS)
    ]


@pytest.fixture
def columns(rollouts) -> dict[str, np.ndarray]:
    """D4RL's arrays of them."""
    joined = {key: [one[key] for one in rollouts] for key in rollouts[0]}
    ends = np.zeros(sum(LENGTHS), bool)
    ends[np.cumsum(LENGTHS) - 1] = True
    terminals = np.concatenate(joined["terminals"])
    return {
        "observations": np.concatenate([one[:-1] for one in joined["observations"]]),
        "next_observations": np.concatenate([one[1:] for one in joined["observations"]]),
        "actions": np.concatenate(joined["actions"]),
        "rewards": np.concatenate(joined["rewards"]),
        "terminals": terminals,
        "timeouts": ends & ~terminals,
    }


@pytest.fixture
def expected(columns) -> Trajectories:
    return from_arrays(columns)


@pytest.fixture
def table(columns) -> dict[str, np.ndarray]:
    """One column of numbers each, by the names that are read by custom."""
    vectors = ("observations", "next_observations", "actions")
    named = {
        f"{key.removesuffix('s')}_{i}": columns[key][:, i]
        for key in vectors
        for i in range(columns[key].shape[1])
    }
    numbers = {"reward": columns["rewards"], "terminal": columns["terminals"]}
    return {"episode": np.repeat(np.arange(len(LENGTHS)), LENGTHS)} | named | numbers


def check_same(loaded: Trajectories, expected: Trajectories) -> None:
    for name in (*COLUMNS, "lengths"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(expected, name), name)


def write_csv(path, table, delimiter=",", text=str):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(table)
        writer.writerows(
            [text(value.item()) for value in row] for row in zip(*table.values(), strict=True)
        )
    return path


def test_d4rl(tmp_path, expected):
    d4rl.write(tmp_path / "a.hdf5", expected, {})
    check_same(load_dataset(tmp_path / "a.hdf5"), expected)


def test_arrays(columns, expected):
    check_same(Trajectories.from_arrays(**columns), expected)


def test_npz(tmp_path, columns, expected):
    np.savez(tmp_path / "a.npz", **columns)
    check_same(load_dataset(tmp_path / "a.npz"), expected)


def test_ogbench(tmp_path, columns, expected):
    """Its `terminals` are the ends of episodes; where the mask is 0 the task is done."""
    ogbench = columns | {
        "terminals": (columns["terminals"] | columns["timeouts"]).astype(np.float32),
        "masks": 1.0 - columns["terminals"],
    }
    del ogbench["timeouts"]
    np.savez_compressed(tmp_path / "a.npz", **ogbench)
    check_same(load_dataset(tmp_path / "a.npz"), expected)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(tmp_path, table, expected, delimiter):
    check_same(load_dataset(write_csv(tmp_path / "a.csv", table, delimiter)), expected)


def test_csv_of_columns_in_any_order(tmp_path, table, expected):
    shuffled = {key: table[key] for key in reversed(table)}
    check_same(load_dataset(write_csv(tmp_path / "a.csv", shuffled)), expected)


def test_csv_of_episodes_with_names_and_timeouts(tmp_path, table, columns, expected):
    named = table | {"episode": np.array(["run 7", "run 3", "run 5"])[table["episode"]]}
    check_same(load_dataset(write_csv(tmp_path / "a.csv", named)), expected)
    flagged = {key: one for key, one in table.items() if key != "episode"}
    flagged["timeout"] = columns["timeouts"]
    check_same(load_dataset(write_csv(tmp_path / "b.csv", flagged, text=repr)), expected)


def test_csv_of_episodes_by_turns(tmp_path, table, expected):
    step = np.concatenate([np.arange(n) for n in LENGTHS])
    turns = {key: column[np.argsort(step, kind="stable")] for key, column in table.items()}
    with pytest.warns(UserWarning, match="episodes take turns"):
        check_same(load_dataset(write_csv(tmp_path / "a.csv", turns)), expected)


def test_csv_of_episodes_by_uneven_turns(tmp_path, table, expected):
    """The second robot logs when the first has logged thrice; the third, when both are done."""
    time = [np.arange(7.0), 2.5 + 3 * np.arange(4), 100 + np.arange(9.0)]
    order = np.argsort(np.concatenate(time), kind="stable")
    turns = {key: column[order] for key, column in table.items()}
    with pytest.warns(UserWarning, match="episodes take turns"):
        check_same(load_dataset(write_csv(tmp_path / "a.csv", turns)), expected)


def test_csv_of_recordings_that_are_each_numbered_anew(tmp_path, table, expected):
    again = table | {"episode": np.array([0, 1, 0])[table["episode"]]}
    with pytest.warns(UserWarning, match="1 times an episode's number .* first in row 11; a new"):
        check_same(load_dataset(write_csv(tmp_path / "a.csv", again)), expected)


def test_parquet(tmp_path, table, columns, expected):
    pa.parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    check_same(load_dataset(tmp_path / "a.parquet"), expected)
    lists = {
        "episode": table["episode"],
        "observation": pa.array(list(columns["observations"])),
        "next_observation": pa.array(list(columns["next_observations"])),
        "action": pa.array(list(columns["actions"])),
        "reward": columns["rewards"],
        "terminal": columns["terminals"],
    }
    pa.parquet.write_table(pa.table(lists), tmp_path / "b.parquet", row_group_size=5)
    check_same(load_dataset(tmp_path / "b.parquet"), expected)


def test_a_folder_of_npz(tmp_path, rollouts, expected):
    """One observation more than actions; by number, so that 10 stands behind 9."""
    for number, episode in zip((8, 9, 10), rollouts, strict=True):
        np.savez(tmp_path / f"episode_{number}.npz", **episode)
    check_same(load_dataset(tmp_path), expected)
    before = content_hash(resolve(tmp_path))
    np.savez(tmp_path / "episode_9.npz", **rollouts[0])
    assert content_hash(resolve(tmp_path)) != before


def test_a_folder_of_hdf5(tmp_path, rollouts, expected):
    """Below a group, as loggers write them, and with one observation more than actions."""
    for number, episode in enumerate(rollouts):
        with h5py.File(tmp_path / f"episode_{number}.hdf5", "w") as file:
            for key, column in episode.items():
                file[f"data/{key}"] = column
    with pytest.warns(UserWarning, match="read from its group 'data'"):
        check_same(load_dataset(tmp_path), expected)


def test_a_folder_of_parquet(tmp_path, table, expected):
    for number in range(len(LENGTHS)):
        rows = table["episode"] == number
        part = {key: column[rows] for key, column in table.items() if key != "episode"}
        pa.parquet.write_table(pa.table(part), tmp_path / f"{number}.parquet")
    check_same(load_dataset(tmp_path), expected)


def test_a_folder_of_npz_with_one_flag(tmp_path, rollouts, expected):
    for number, episode in enumerate(rollouts):
        whole = episode | {"terminals": episode["terminals"].any()}
        np.savez(tmp_path / f"{number}.npz", **whole)
    check_same(load_dataset(tmp_path), expected)


def test_a_folder_of_csv(tmp_path, table, expected):
    for number in range(len(LENGTHS)):
        rows = table["episode"] == number
        part = {key: column[rows] for key, column in table.items() if key != "episode"}
        write_csv(tmp_path / f"{number}.csv", part)
    check_same(load_dataset(tmp_path), expected)


def test_lerobot(tmp_path, columns):
    """Without next states, a cut episode loses its last transition, as in D4RL's format."""
    del columns["next_observations"]
    episode = np.repeat(np.arange(len(LENGTHS)), LENGTHS)
    frames = pa.table(
        {
            "observation.state": pa.array(list(columns["observations"][:, :2])),
            "observation.force": columns["observations"][:, 2],
            "observation.image": ["a.png"] * len(episode),
            "action": pa.array(list(columns["actions"])),
            "next.reward": columns["rewards"],
            "next.done": columns["terminals"],
            "episode_index": episode,
            "frame_index": np.arange(len(episode)),
        }
    )
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": {"motors": ["x", "y"]}},
        "observation.force": {"dtype": "float32", "shape": [1], "names": None},
        "observation.image": {"dtype": "video", "shape": [3, 8, 8]},
        "action": {"dtype": "float32", "shape": [2], "names": ["left", "right"]},
    }
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(
        json.dumps({"codebase_version": "v3.0", "features": features})
    )
    parts = slice(0, 8), slice(8, None)
    for chunk, rows in zip(("file-000", "file-001"), parts, strict=True):
        (tmp_path / "data/chunk-000").mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(
            frames.take(np.arange(len(episode))[rows]),
            tmp_path / f"data/chunk-000/{chunk}.parquet",
        )
    with pytest.warns(UserWarning, match=r"images are not used: observation\.image"):
        check_same(load_dataset(tmp_path), from_arrays(columns))
    ends = np.append(episode[1:] != episode[:-1], True)
    every = frames.set_column(frames.column_names.index("next.done"), "next.done", pa.array(ends))
    for path, rows in zip(sorted((tmp_path / "data").rglob("*.parquet")), parts, strict=True):
        pa.parquet.write_table(every.take(np.arange(len(episode))[rows]), path)
    with pytest.warns(UserWarning, match=r"next\.done ends every episode"):
        terminal = load_dataset(tmp_path).terminals
    with pytest.warns(UserWarning, match="images"):
        cut = load_dataset(tmp_path, keys=Keys(timeouts="next.done")).terminals
    assert (terminal.sum(), cut.sum()) == (len(LENGTHS), 0)
    two = Keys(rewards="next.reward,frame_index")
    with pytest.raises(DatasetError, match="rewards must be one feature"):
        load_dataset(tmp_path, keys=two)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("kind", ["box", "dict"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_minari(tmp_path, monkeypatch, rollouts, expected, data_format, kind):
    """As the package itself writes it; a Dict in the order in which FlattenObservation has it."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari
    from minari.data_collector import EpisodeBuffer

    spaces = gymnasium.spaces
    space = spaces.Box(-np.inf, np.inf, (STATES,), np.float32)
    if kind == "dict":
        unbounded = {"low": -np.inf, "high": np.inf, "dtype": np.float32}
        space = spaces.Dict(
            {
                "pose": spaces.Box(shape=(2,), **unbounded),
                "goal": spaces.Box(shape=(1,), **unbounded),
            }
        )
    episodes = [
        EpisodeBuffer(
            id=index,
            observations=one["observations"]
            if kind == "box"
            else {"pose": one["observations"][:, 1:], "goal": one["observations"][:, :1]},
            actions=one["actions"],
            rewards=list(one["rewards"]),
            terminations=list(one["terminals"]),
            truncations=[False] * (len(one["rewards"]) - 1) + [not one["terminals"][-1]],
            infos={"qpos": np.zeros(len(one["observations"]))},
        )
        for index, one in enumerate(rollouts)
    ]
    name = f"mine/{kind}-v0"
    minari.create_dataset_from_buffers(
        name,
        episodes,
        env=None,
        observation_space=space,
        action_space=spaces.Box(-1, 1, (ACTIONS,), np.float32),
        data_format=data_format,
        requirements=[],
        description="",
        algorithm_name="",
        author="",
        author_email="",
        code_permalink="",
    )
    # `goal` stands before `pose` in the space.
    check_same(load_dataset(name), expected)
    check_same(load_dataset(tmp_path / name), expected)
    check_same(load_dataset(tmp_path / name / "data"), expected)


def test_generated_transitions(tmp_path, columns):
    """SynthER's rows do not follow each other: each is an episode of its own, if so asked for."""
    order = np.random.default_rng(1).permutation(sum(LENGTHS))
    generated = {key: one[order] for key, one in columns.items() if key != "timeouts"}
    np.savez(tmp_path / "a.npz", **generated)
    data = load_dataset(tmp_path / "a.npz", DatasetChecks(unordered=True))
    assert data.lengths.tolist() == [1] * sum(LENGTHS)
    np.testing.assert_array_equal(data.observations, generated["observations"])
    np.testing.assert_array_equal(data.terminals, generated["terminals"])
