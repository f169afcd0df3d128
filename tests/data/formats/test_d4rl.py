"""Tests of D4RL's file format: what is read, what is dropped, and how a bad file is refused.

Over 300 lines: every way in which such files differ, and what is read of each.
"""

import sys
import types

import h5py
import numpy as np
import pytest

from tskd_jax.data import load_dataset
from tskd_jax.data.arrays import from_arrays
from tskd_jax.data.formats import d4rl
from tskd_jax.data.keys import REQUIRED, Keys
from tskd_jax.data.trajectories import COLUMNS, RECORDED, STITCHED
from tskd_jax.errors import DatasetError

# Rows 0-2: an episode that ends in a terminal state. Rows 3-4: one that is truncated. Rows 5-6: a
# fragment without an end. States count up, and each episode's true last state is its own hundred.
OBSERVATIONS = np.array([[0, 1], [1, 2], [2, 3], [10, 11], [11, 12], [20, 21], [21, 22]], float)
NEXT = np.array([[1, 2], [2, 3], [100, 3], [11, 12], [200, 4], [21, 22], [22, 23]], float)
TERMINALS = np.array([0, 0, 1, 0, 0, 0, 0], bool)
TIMEOUTS = np.array([0, 0, 0, 0, 1, 0, 0], bool)
ROWS = len(TERMINALS)


def make_columns(*left_out: str, **replaced: np.ndarray) -> dict[str, np.ndarray]:
    columns = {
        "observations": OBSERVATIONS.astype(np.float32),
        "actions": np.linspace(-1, 1, ROWS, dtype=np.float32)[:, None],
        "rewards": np.arange(ROWS, dtype=np.float32),
        "terminals": TERMINALS,
        "timeouts": TIMEOUTS,
        "next_observations": NEXT.astype(np.float32),
    } | replaced
    return {key: value for key, value in columns.items() if key not in left_out}


def write(path, columns, **options):
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, **options)
    return path


def assert_equal(left, right):
    for name in (*COLUMNS, "lengths"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def check_refused(path, *words: str) -> None:
    """Reading fails in one line that has the file's name and those words."""
    with pytest.raises(DatasetError) as caught:
        load_dataset(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


def test_complete_file(tmp_path):
    data = load_dataset(write(tmp_path / "a.hdf5", make_columns()))
    assert data.lengths.tolist() == [3, 2]
    assert data.rewards.tolist() == [0, 1, 2, 3, 4]
    assert data.terminals.tolist() == [False, False, True, False, False]
    np.testing.assert_array_equal(data.observations, OBSERVATIONS[:5])
    np.testing.assert_array_equal(data.next_observations, NEXT[:5])
    np.testing.assert_array_equal(data.actions[:, 0], np.linspace(-1, 1, 7, dtype=np.float32)[:5])
    assert set(data.source.tolist()) == {RECORDED}


def test_without_next_observations_a_truncated_episode_loses_its_last_transition(tmp_path):
    data = load_dataset(write(tmp_path / "a.hdf5", make_columns("next_observations")))
    # The terminal episode keeps its last transition (nothing bootstraps from its next state); the
    # truncated one keeps row 3 alone, since the state behind row 4 was never recorded.
    assert data.lengths.tolist() == [3, 1]
    assert data.rewards.tolist() == [0, 1, 2, 3]
    assert data.next_observations[[0, 1, 3]].tolist() == [[1, 2], [2, 3], [11, 12]]
    assert data.terminals.tolist() == [False, False, True, False]


def test_without_timeouts_the_file_ends_the_last_episode(tmp_path):
    data = load_dataset(write(tmp_path / "a.hdf5", make_columns("timeouts")))
    assert data.lengths.tolist() == [3, 4]
    assert data.terminals.tolist() == [False, False, True] + 4 * [False]
    np.testing.assert_array_equal(data.next_observations, NEXT)


def test_with_neither_as_in_kitchen(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns("timeouts", "next_observations"))
    data = load_dataset(path)
    assert data.lengths.tolist() == [3, 3]
    assert data.rewards.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(data.next_observations[3:], OBSERVATIONS[4:])


def test_next_states_never_cross_episodes(tmp_path):
    rng = np.random.default_rng(0)
    ends = rng.random(200) < 0.2
    terminals = ends & (rng.random(200) < 0.5)
    columns = {
        "observations": np.arange(200.0)[:, None],
        "actions": np.zeros((200, 1)),
        "rewards": np.zeros(200),
        "terminals": terminals,
        "timeouts": ends & ~terminals,
    }
    data = from_arrays(columns)
    inside = ~data.terminals
    # The state is the row's number: a recorded next state is the number behind it.
    np.testing.assert_array_equal(data.next_observations[inside], data.observations[inside] + 1)
    assert ends[data.observations[data.terminals, 0].astype(int)].all()
    assert not ends[data.observations[inside, 0].astype(int)].any()
    kept = len(np.flatnonzero(~ends[: np.flatnonzero(ends)[-1]])) + terminals.sum()
    assert data.size == kept
    assert data.lengths.sum() == kept


def test_episodes_of_one_transition():
    # Rows 0 and 1 are truncated at once and vanish without next states; row 2 is terminal.
    columns = make_columns("next_observations") | {
        "terminals": np.array([0, 0, 1, 0, 0, 0, 1], bool),
        "timeouts": np.array([1, 1, 0, 0, 0, 0, 0], bool),
    }
    data = from_arrays(columns)
    assert data.lengths.tolist() == [1, 4]
    assert data.rewards.tolist() == [2, 3, 4, 5, 6]


def test_rewards_and_terminals_as_columns(tmp_path):
    expected = load_dataset(write(tmp_path / "a.hdf5", make_columns()))
    columns = make_columns()
    for key in ("rewards", "terminals", "timeouts"):
        columns[key] = columns[key][:, None]
    assert_equal(load_dataset(write(tmp_path / "b.hdf5", columns)), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True},
        {"compression": "lzf"},
        {"chunks": True, "maxshape": None, "fletcher32": True},
    ],
    ids=["gzip", "lzf", "checksum"],
)
def test_storage_makes_no_difference(tmp_path, options):
    expected = load_dataset(write(tmp_path / "a.hdf5", make_columns()))
    assert_equal(load_dataset(write(tmp_path / "b.hdf5", make_columns(), **options)), expected)


@pytest.mark.parametrize("kind", [np.float64, ">f4", "<f8", ">f8"])
def test_number_types_make_no_difference(tmp_path, kind):
    expected = load_dataset(write(tmp_path / "a.hdf5", make_columns()))
    columns = {
        key: column.astype(kind) if column.dtype == np.float32 else column.astype(np.uint8)
        for key, column in make_columns().items()
    }
    assert_equal(load_dataset(write(tmp_path / "b.hdf5", columns)), expected)


def test_fortran_order_makes_no_difference():
    columns = {key: np.asfortranarray(column) for key, column in make_columns().items()}
    assert columns["observations"].flags.f_contiguous
    assert_equal(from_arrays(columns), from_arrays(make_columns()))


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, bool])
def test_terminals_of_any_type(tmp_path, kind):
    columns = make_columns(terminals=TERMINALS.astype(kind), timeouts=TIMEOUTS.astype(kind))
    data = load_dataset(write(tmp_path / "a.hdf5", columns))
    assert data.terminals.dtype == bool
    assert data.lengths.tolist() == [3, 2]


def test_other_keys_are_left_alone(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns())
    with h5py.File(path, "a") as file:
        file["infos/qpos"] = np.full((ROWS, 3), np.nan)
        file["metadata/algorithm"] = "SAC"
    assert load_dataset(path).lengths.tolist() == [3, 2]


def test_arrays_of_the_caller_are_not_changed():
    columns = make_columns("next_observations")
    before = {key: column.copy() for key, column in columns.items()}
    from_arrays(columns)
    for key, column in columns.items():
        np.testing.assert_array_equal(column, before[key])


def test_write_and_read_back(tmp_path):
    data = from_arrays(make_columns())
    data = data.replace(source=np.full(data.size, STITCHED, np.int8))
    d4rl.write(tmp_path / "a.hdf5", data, {"name": "mine"})
    # A file that is read is recorded data, whatever it was made of; where from is kept in it.
    assert_equal(
        load_dataset(tmp_path / "a.hdf5"), data.replace(source=np.zeros(data.size, np.int8))
    )
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file.attrs["name"] == "mine"
        assert file["infos/source"][()].tolist() == data.size * [STITCHED]
        assert file["timeouts"][()].tolist() == [False, False, False, False, True]


def test_not_hdf5(tmp_path):
    path = tmp_path / "a.hdf5"
    path.write_text("observations,actions\n1,2\n")
    check_refused(path, "not a readable HDF5 file")


def test_empty_file(tmp_path):
    path = tmp_path / "a.hdf5"
    path.touch()
    check_refused(path, "not a readable HDF5 file")


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_truncated_file(tmp_path, kept):
    path = write(tmp_path / "a.hdf5", make_columns(), compression="gzip")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    check_refused(path, "not a readable HDF5 file")


def test_damaged_chunk(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns(), compression="gzip", fletcher32=True)
    with h5py.File(path) as file:
        chunk = file["rewards"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + chunk.size // 2] ^= 0xFF
    path.write_bytes(content)
    check_refused(path, "not a readable HDF5 file")


def test_damaged_header(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns())
    with h5py.File(path) as file:
        address = h5py.h5o.get_info(file["rewards"].id).addr
    content = bytearray(path.read_bytes())
    content[address : address + 8] = b"\xff" * 8
    path.write_bytes(content)
    check_refused(path, "not a readable HDF5 file")


def test_missing_file(tmp_path):
    check_refused(tmp_path / "no.hdf5", "no such file")


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_key(tmp_path, key):
    columns = make_columns(key)
    columns.pop("timeouts", None)  # with these, nothing need be flagged as terminal
    check_refused(write(tmp_path / "a.hdf5", columns), repr(key), "missing")


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("observations", (ROWS,)),
        ("observations", (ROWS, 2, 1)),
        ("actions", (ROWS,)),
        ("rewards", (ROWS, 2)),
        ("terminals", (ROWS, 1, 1)),
        ("timeouts", ()),
        ("next_observations", (ROWS,)),
    ],
)
def test_wrong_rank(tmp_path, key, shape):
    path = write(tmp_path / "a.hdf5", make_columns(**{key: np.zeros(shape, np.float32)}))
    check_refused(path, repr(key), f"has shape {shape}")


def test_next_observations_of_another_size(tmp_path):
    columns = make_columns(next_observations=np.zeros((ROWS, 3), np.float32))
    check_refused(write(tmp_path / "a.hdf5", columns), "'next_observations'", "(7, 3)", "(7, 2)")


@pytest.mark.parametrize("key", [k for k in make_columns() if k != "rewards"])
def test_differing_lengths(tmp_path, key):
    path = write(tmp_path / "a.hdf5", make_columns(**{key: make_columns()[key][:-1]}))
    check_refused(path, repr(key), "6 rows", "7")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("key", ["observations", "actions", "rewards", "next_observations"])
def test_not_finite(tmp_path, key, bad):
    columns = make_columns()
    columns[key] = columns[key].copy()
    columns[key][:2] = bad
    check_refused(write(tmp_path / "a.hdf5", columns), repr(key), "in 2 rows", "row 0")


def test_no_end(tmp_path):
    columns = make_columns(terminals=np.zeros(ROWS, bool), timeouts=np.zeros(ROWS, bool))
    check_refused(write(tmp_path / "a.hdf5", columns), "no episode ends", "'terminals'")


def test_no_complete_transition(tmp_path):
    columns = make_columns(
        "next_observations", terminals=np.zeros(ROWS, bool), timeouts=np.ones(ROWS, bool)
    )
    check_refused(write(tmp_path / "a.hdf5", columns), "'next_observations'", "complete")


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows(tmp_path, rows):
    columns = {key: column[:rows] for key, column in make_columns().items()}
    check_refused(write(tmp_path / "a.hdf5", columns), f"{rows} transitions")


@pytest.mark.parametrize("kind", ["soft", "external"])
def test_a_link_is_not_followed(tmp_path, kind):
    other = write(tmp_path / "other.hdf5", make_columns())
    path = write(tmp_path / "a.hdf5", make_columns("rewards"))
    with h5py.File(path, "a") as file:
        file["elsewhere"] = make_columns()["rewards"]
        file["rewards"] = (
            h5py.SoftLink("/elsewhere")
            if kind == "soft"
            else h5py.ExternalLink(str(other), "/rewards")
        )
    check_refused(path, "'rewards'", "link")


def test_a_dangling_link_is_a_link(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns("timeouts"))
    with h5py.File(path, "a") as file:
        file["timeouts"] = h5py.SoftLink("/nowhere")
    check_refused(path, "'timeouts'", "link")


def test_a_group_is_not_an_array(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns("observations"))
    with h5py.File(path, "a") as file:
        file["observations/image"] = np.zeros((ROWS, 2))
    check_refused(path, "'observations'", "group")


@pytest.mark.parametrize("column", [np.array([b"1"] * ROWS), ["1"] * ROWS, np.zeros(ROWS, complex)])
def test_not_numbers(tmp_path, column):
    path = write(tmp_path / "a.hdf5", make_columns("rewards"))
    with h5py.File(path, "a") as file:
        file["rewards"] = column
    check_refused(path, "'rewards'", "not numbers")


def install_fake_packages(monkeypatch, get_dataset):
    """d4rl and gym as the optional package needs them, without either."""
    names = []

    def make(name):
        names.append(name)
        return types.SimpleNamespace(get_dataset=get_dataset)

    gym = types.ModuleType("gym")
    gym.make = make
    monkeypatch.setitem(sys.modules, "gym", gym)
    monkeypatch.setitem(sys.modules, "d4rl", types.ModuleType("d4rl"))
    return names


def test_the_d4rl_package(monkeypatch):
    extra = {"infos/qpos": np.zeros((ROWS, 3)), "metadata/algorithm": b"SAC"}
    names = install_fake_packages(monkeypatch, lambda: make_columns() | extra)
    data = load_dataset("d4rl:hopper-medium-v2")
    assert names == ["hopper-medium-v2"]
    assert_equal(data, from_arrays(make_columns()))


def test_the_d4rl_package_and_other_keys(monkeypatch):
    velocities = np.arange(3.0 * ROWS).reshape(ROWS, 3)
    both = make_columns("next_observations") | {"infos/qvel": velocities}
    install_fake_packages(monkeypatch, lambda: both)
    data = load_dataset("d4rl:hopper-medium-v2", keys=Keys(observations="infos/qvel"))
    np.testing.assert_array_equal(data.observations, velocities[:4])
    with pytest.raises(DatasetError, match=r"d4rl:hopper-medium-v2: .* there is no 'qpos'"):
        load_dataset("d4rl:hopper-medium-v2", keys=Keys(observations="qpos"))


def test_the_d4rl_package_knows_no_such_name(monkeypatch):
    def refuse():
        raise KeyError("no such environment\nand a long explanation")

    install_fake_packages(monkeypatch, refuse)
    with pytest.raises(DatasetError, match="d4rl:nonsense-v9") as caught:
        load_dataset("d4rl:nonsense-v9")
    assert "\n" not in str(caught.value)


def test_the_d4rl_package_gives_bad_data(monkeypatch):
    install_fake_packages(monkeypatch, lambda: make_columns("actions"))
    with pytest.raises(DatasetError, match="d4rl:hopper-medium-v2: key 'actions' is missing"):
        load_dataset("d4rl:hopper-medium-v2")


@pytest.mark.parametrize("absent", ["d4rl", "gym"])
def test_without_the_d4rl_package(monkeypatch, absent):
    install_fake_packages(monkeypatch, make_columns)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(DatasetError, match="path of the HDF5 file") as caught:
        load_dataset("d4rl:hopper-medium-v2")
    assert "d4rl:hopper-medium-v2" in str(caught.value)
    assert "\n" not in str(caught.value)
