"""Tests of Minari's layout: one group an episode, one more observation than rewards."""

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tskd_jax.data import load_dataset
from tskd_jax.data.formats import minari
from tskd_jax.data.keys import Keys
from tskd_jax.data.load import read_columns
from tskd_jax.errors import DatasetError


def make_episode(first: float, steps: int, terminated: bool) -> dict[str, np.ndarray]:
    """States count up from `first`; Minari flags the end as a termination or a truncation."""
    flags = np.arange(steps) == steps - 1
    return {
        "observations": first + np.arange(steps + 1, dtype=np.float64)[:, None] * [1.0, 2.0],
        "actions": np.full((steps, 1), first, np.float32),
        "rewards": first + np.arange(steps, dtype=np.float64),
        "terminations": flags & terminated,
        "truncations": flags & (not terminated),
    }


def write(path, episodes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, episode in episodes.items():
            group = file.create_group(f"episode_{number}")
            group.attrs["id"] = number
            for key, column in episode.items():
                group[key] = column
            group.create_group("infos")["qpos"] = np.zeros(3)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "main_data.hdf5"


def test_episodes(path):
    write(path, {0: make_episode(0, 3, True), 1: make_episode(50, 2, False)})
    assert minari.is_minari(path)
    data = load_dataset(path)
    assert data.lengths.tolist() == [3, 2]
    assert data.rewards.tolist() == [0, 1, 2, 50, 51]
    assert data.observations.tolist() == [[0, 0], [1, 2], [2, 4], [50, 50], [51, 52]]
    # The last next states are the observations of which there is one more than of rewards.
    assert data.next_observations.tolist() == [[1, 2], [2, 4], [3, 6], [51, 52], [52, 54]]
    assert data.terminals.tolist() == [False, False, True, False, False]


def test_episodes_are_ordered_by_number_not_by_name(path):
    write(path, {number: make_episode(number, 2, True) for number in (10, 2, 0, 1, 11)})
    # By name, episode_10 would stand before episode_2.
    assert load_dataset(path).initial_observations[:, 0].tolist() == [0, 1, 2, 10, 11]


def test_episodes_without_a_step_are_skipped(path):
    write(path, {0: make_episode(0, 0, True), 1: make_episode(5, 2, True)})
    assert load_dataset(path).lengths.tolist() == [2]


def test_no_transition_at_all(path):
    write(path, {0: make_episode(0, 0, True)})
    with pytest.raises(DatasetError, match="no episode holds a transition"):
        load_dataset(path)


@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "terminations"])
def test_missing_array(path, key):
    episode = make_episode(5, 2, True)
    del episode[key]
    write(path, {0: make_episode(0, 2, True), 1: episode})
    with pytest.raises(DatasetError, match=f"episode_1 has no array '{key}'") as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)


def test_observations_that_are_a_dictionary(path):
    """Flattened in the order of the space in metadata.json; by name where there is none."""
    write(path, {0: {k: v for k, v in make_episode(0, 2, True).items() if k != "observations"}})
    parts = {
        "goal": np.array([[10.0], [11], [12]]),
        "a_pose": np.array([[20.0, 30], [21, 31], [22, 32]]),
    }
    with h5py.File(path, "a") as file:
        for name, part in parts.items():
            file[f"episode_0/observations/{name}"] = part
    assert load_dataset(path).observations.tolist() == [[20, 30, 10], [21, 31, 11]]
    assert read_columns(path).names["observations"] == ("a_pose[0]", "a_pose[1]", "goal[0]")
    space = {"type": "Dict", "subspaces": {"goal": {"type": "Box"}, "a_pose": {"type": "Box"}}}
    known = {"observation_space": json.dumps(space), "action_space": "{}"}
    (path.parent / "metadata.json").write_text(json.dumps(known))
    assert load_dataset(path).observations.tolist() == [[10, 20, 30], [11, 21, 31]]
    assert load_dataset(path).next_observations.tolist() == [[11, 21, 31], [12, 22, 32]]
    # Of a space that cannot be read the order is that of the names again.
    known["observation_space"] = json.dumps(space | {"subspaces": ["goal", "a_pose"]})
    (path.parent / "metadata.json").write_text(json.dumps(known))
    assert load_dataset(path).observations.tolist() == [[20, 30, 10], [21, 31, 11]]


def test_as_many_observations_as_rewards(path):
    episode = make_episode(0, 3, True)
    write(path, {0: episode | {"observations": episode["observations"][:-1]}})
    with pytest.raises(DatasetError, match=r"episode_0 has 3 observations and 3 rewards; T \+ 1"):
        load_dataset(path)


def test_actions_of_another_length(path):
    episode = make_episode(0, 3, True)
    write(path, {0: episode | {"actions": episode["actions"][:-1]}})
    with pytest.raises(DatasetError, match="actions") as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_lengths_that_only_fit_in_sum(path):
    # One action too many in the first episode, one too few in the second: as many as rewards.
    first, second = make_episode(0, 3, True), make_episode(50, 3, True)
    first["actions"] = np.zeros((4, 1), np.float32)
    second["actions"] = np.zeros((2, 1), np.float32)
    write(path, {0: first, 1: second})
    with pytest.raises(DatasetError, match="episode_0"):
        load_dataset(path)


def test_states_of_different_sizes(path):
    other = make_episode(0, 3, True)
    other["observations"] = other["observations"][:, :1]
    write(path, {0: make_episode(0, 3, True), 1: other})
    with pytest.raises(DatasetError, match="observations"):
        load_dataset(path)


def test_damaged_chunk(path):
    write(path, {0: make_episode(0, 3, True)})
    with h5py.File(path, "a") as file:
        rewards = file["episode_0/rewards"][()]
        del file["episode_0/rewards"]
        file["episode_0"].create_dataset("rewards", data=rewards, fletcher32=True)
        chunk = file["episode_0/rewards"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_groups_are_left_alone(path):
    write(path, {0: make_episode(0, 3, True)})
    with h5py.File(path, "a") as file:
        file["notes/author"] = "someone"
    assert load_dataset(path).lengths.tolist() == [3]


def test_an_episode_that_is_an_array(path):
    path.parent.mkdir(parents=True)
    with h5py.File(path, "w") as file:
        file["episode_0"] = np.zeros((3, 2))
    with pytest.raises(DatasetError, match="episode_0"):
        load_dataset(path)


def test_not_finite(path):
    episode = make_episode(0, 3, True)
    episode["observations"][1] = np.nan
    write(path, {0: episode})
    with pytest.raises(DatasetError, match="'observations' is not finite"):
        load_dataset(path)


def test_what_is_not_minari(tmp_path):
    (tmp_path / "text.hdf5").write_text("no HDF5")
    assert not minari.is_minari(tmp_path / "text.hdf5")
    assert not minari.is_minari(tmp_path / "absent.hdf5")
    with h5py.File(tmp_path / "d4rl.hdf5", "w") as file:
        file["observations"] = np.zeros((2, 2))
    assert not minari.is_minari(tmp_path / "d4rl.hdf5")


def test_other_arrays(path):
    episode = make_episode(0, 2, True) | {"mine": np.array([5.0, 6])}
    goal = episode.pop("observations")
    episode |= {"observations/goal": goal, "observations/image": np.zeros((3, 4, 4, 3))}
    write(path, {0: episode | {"env/force": np.array([7.0, 8, 9])}})
    keys = Keys(observations="env/force,observations/g*", rewards="mine", terminals="truncations")
    data = load_dataset(path, keys=keys)
    assert data.observations.tolist() == [[7, 0, 0], [8, 1, 2]]
    assert data.next_observations[-1].tolist() == [9, 2, 4]
    assert data.rewards.tolist() == [5, 6]
    assert not data.terminals.any()
    assert read_columns(path, keys).names["observations"] == (
        *("env/force", "observations/goal[0]", "observations/goal[1]"),
    )


def test_other_arrays_in_parquet(tmp_path):
    for number, reward in enumerate((5.0, 6.0)):
        states = [{"goal": [9.0], "pose": [float(number), row]} for row in (1.0, 2.0, 3.0)]
        table = {
            "observations": pa.array(states),
            "actions": pa.array([[0.5]] * 3),
            "rewards": [0.0] * 3,
            "mine": [reward] * 3,
            "terminations": [False] * 3,
        }
        (tmp_path / str(number)).mkdir()
        pa.parquet.write_table(pa.table(table), tmp_path / str(number) / "part-0.parquet")
    data = load_dataset(tmp_path, keys=Keys(observations="observations/pose", rewards="mine"))
    assert data.observations.tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert data.rewards.tolist() == [5, 5, 6, 6]
    with pytest.raises(DatasetError, match=r"there is no 'reward'; found .*'mine'"):
        load_dataset(tmp_path, keys=Keys(rewards="reward"))


@pytest.mark.parametrize("described", [False, True])
def test_a_tuple_of_more_than_ten_parts(path, described):
    """In their order, as in `FlattenObservation`: by name, _index_10 stands before _index_2."""
    episode = make_episode(0, 2, True)
    parts = range(12)
    del episode["observations"]
    episode |= {f"observations/_index_{i}": np.full((3, 1), i) for i in parts}
    write(path, {0: episode})
    if described:
        space = {"type": "Tuple", "subspaces": [{"type": "Box"}] * len(parts)}
        known = {"observation_space": json.dumps(space), "action_space": "{}"}
        (path.parent / "metadata.json").write_text(json.dumps(known))
    assert load_dataset(path).observations.tolist() == [list(parts)] * 2


def test_a_tuple_in_parquet(tmp_path):
    """There, its parts have names that sort in the same way; only the space says that it is one."""
    table = {
        "observations": pa.array([{str(i): [float(i)] for i in range(12)}] * 3),
        "actions": pa.array([[0.5]] * 3),
        "rewards": [0.0] * 3,
        "terminations": [False] * 3,
    }
    (tmp_path / "0").mkdir()
    pa.parquet.write_table(pa.table(table), tmp_path / "0/part-0.parquet")
    space = {"type": "Tuple", "subspaces": [{"type": "Box"}] * 12}
    known = {"observation_space": json.dumps(space), "action_space": "{}"}
    (tmp_path / "metadata.json").write_text(json.dumps(known))
    assert load_dataset(tmp_path).observations.tolist() == [list(range(12))] * 2


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"observations": pa.array([[[1.0], [2.0]]] * 3)}, "'observations' holds list<"),
        ({"rewards": pa.array([{"x": 1.0}] * 3)}, "'rewards' holds struct<x: double>"),
    ],
)
def test_parquet_of_more_than_vectors(tmp_path, column, words):
    table = {
        "observations": pa.array([[1.0]] * 3),
        "actions": pa.array([[0.5]] * 3),
        "rewards": [0.0] * 3,
        "terminations": [False] * 3,
    }
    (tmp_path / "0").mkdir()
    pa.parquet.write_table(pa.table(table | column), tmp_path / "0/part-0.parquet")
    with pytest.raises(DatasetError, match=words):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (Keys(rewards="mine"), "episode_0: config.dataset.rewards='mine': there is no 'mine'"),
        (Keys(rewards="rewards,actions"), "episode_0: rewards must be one array"),
        (Keys(observations="observations/goal"), "there is no 'observations/goal'"),
        (Keys(timeouts="truncations"), "timeouts='truncations' cannot be chosen: each of Minari's"),
    ],
)
def test_other_arrays_that_there_are_not(path, keys, words):
    write(path, {0: make_episode(0, 3, True)})
    with pytest.raises(DatasetError, match=words):
        load_dataset(path, keys=keys)
