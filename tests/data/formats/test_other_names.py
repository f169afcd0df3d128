"""Files that name things in other ways, and files of other formats that cannot be read.

Over 300 lines: a list of what people bring, and what is said of each.
"""

import json
import os
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tskd_jax.data import load_dataset
from tskd_jax.data.checks import DatasetChecks
from tskd_jax.data.formats import budget
from tskd_jax.data.keys import Keys, chosen
from tskd_jax.data.load import content_hash, read_columns
from tskd_jax.errors import DatasetError

ROWS, ENDS = 6, (2, 5)


def make_columns() -> dict[str, np.ndarray]:
    """Two episodes of three rows, the first ended by a terminal."""
    count = np.arange(ROWS, dtype=np.float32)
    return {
        "observations": np.stack([count, 10 * count], 1),
        "actions": count[:, None] / 10,
        "rewards": count,
        "terminals": count == ENDS[0],
        "timeouts": count == ENDS[1],
    }


def write(path, columns, **options):
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, **options)
    return path


def read(path, keys=Keys()):  # noqa: B008 - frozen
    """(trajectories, warnings)."""
    heard: list[str] = []
    return load_dataset(path, DatasetChecks(warn=heard.append), keys), heard


def refused(path, *words, keys=Keys()):  # noqa: B008 - frozen
    with pytest.raises(DatasetError) as caught:
        read(path, keys)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message


# Other names


def test_todays_names_of_flags(tmp_path):
    columns = make_columns()
    todays = {
        {"terminals": "terminations", "timeouts": "truncations"}.get(key, key): column
        for key, column in columns.items()
    }
    data, heard = read(write(tmp_path / "a.hdf5", todays))
    assert heard == []
    assert data.lengths.tolist() == [3, 2]  # the cut one's last next state is not known


@pytest.mark.parametrize("name", ["dones", "episode_terminals"])
def test_all_ends_beside_the_terminal_ones(tmp_path, name):
    columns = make_columns()
    columns[name] = columns["terminals"] | columns.pop("timeouts")
    data, heard = read(write(tmp_path / "a.hdf5", columns))
    assert len(heard) == 1
    assert f"key '{name}' is taken for the ends of all episodes" in heard[0]
    assert data.lengths.tolist() == [3, 2]
    assert data.terminals.tolist() == [False, False, True, False, False]


def test_names_that_are_likely_are_asked_for(tmp_path):
    others = {"obs": "observations", "acts": "actions", "rews": "rewards", "dones": "terminals"}
    columns = make_columns()
    path = write(tmp_path / "a.hdf5", {other: columns[name] for other, name in others.items()})
    flags = [f"--config.dataset.{name}={other}" for other, name in others.items()]
    refused(path, "'observations' is missing", "'obs'", " ".join(flags))
    data, _ = read(path, Keys(**{name: other for other, name in others.items()}))
    assert data.rewards.tolist() == [0, 1, 2, 3, 4]


def test_below_a_group(tmp_path):
    inside = {f"train/{key}": column for key, column in make_columns().items()}
    data, heard = read(write(tmp_path / "a.hdf5", inside))
    assert data.lengths.tolist() == [3, 2]
    assert [line.split(": ")[1] for line in heard] == ["read from its group 'train'"]


def test_all_ends_below_a_group(tmp_path):
    columns = make_columns()
    columns["dones"] = columns["terminals"] | columns.pop("timeouts")
    inside = {f"train/{key}": column for key, column in columns.items()}
    data, heard = read(write(tmp_path / "a.hdf5", inside))
    assert data.lengths.tolist() == [3, 2]
    assert "key 'train/dones' is taken for the ends of all episodes" in heard[1]
    # Beside episode numbers, it could flag terminal ends or all.
    inside["train/number"] = np.repeat([0, 1], 3)
    del inside["train/terminals"]
    path = write(tmp_path / "a.hdf5", inside)
    refused(path, "--config.dataset.terminals=train/dones", keys=Keys(episode="train/number"))


@pytest.mark.parametrize(("name", "keys"), [("timeouts", Keys()), ("done", Keys(timeouts="done"))])
def test_a_file_that_flags_only_cuts(tmp_path, name, keys):
    columns = make_columns()
    columns[name] = columns.pop("terminals") | columns.pop("timeouts")
    data, heard = read(write(tmp_path / "a.hdf5", columns), keys=keys)
    assert data.lengths.tolist() == [2, 2]  # which state follows a cut is unknown
    assert not data.terminals.any()
    assert "nothing says which episodes ended in a terminal state" in heard[0]


def test_below_two_groups(tmp_path):
    inside = {
        f"{group}/{key}": column
        for group in ("train", "valid")
        for key, column in make_columns().items()
    }
    path = write(tmp_path / "a.hdf5", inside)
    refused(path, "'observations' is missing", "--config.dataset.observations=train/observations")


def test_a_vector_of_several_keys(tmp_path):
    columns = make_columns()
    both = columns.pop("observations")
    columns |= {"infos/qpos": both[:, :1], "infos/qvel": both[:, 1]}
    path = write(tmp_path / "a.hdf5", columns)
    keys = Keys(observations="infos/qpos,infos/qvel")
    np.testing.assert_array_equal(read(path, keys)[0].observations, both[:5])
    assert read_columns(path, keys).names["observations"] == ("infos/qpos[0]", "infos/qvel")
    np.testing.assert_array_equal(
        read(path, Keys(observations="infos/*"))[0].observations, both[:5]
    )
    refused(path, "there is no 'infos/force'", keys=Keys(observations="infos/qpos,infos/force"))
    refused(path, "rewards must be one key", keys=Keys(observations="infos/*", rewards="infos/*"))


def test_columns_by_pattern_stand_in_the_order_of_their_numbers(tmp_path):
    names = [f"joint_{i}" for i in (10, 2, 1)]
    rows = [[10, 2, 1, 0.5, 1, 0], [11, 3, 2, 0.5, 1, 1]]
    lines = [",".join([*names, "action_0", "reward", "terminal"])]
    (tmp_path / "a.csv").write_text("\n".join(lines + [",".join(map(str, r)) for r in rows]))
    keys = Keys(observations="joint_*")
    assert read(tmp_path / "a.csv", keys)[0].observations.tolist() == [[1, 2, 10], [2, 3, 11]]
    assert read_columns(tmp_path / "a.csv", keys).names["observations"] == (
        *("joint_1", "joint_2", "joint_10"),
    )


@pytest.mark.parametrize(
    ("pattern", "file", "found"),
    [
        ("o_*", "o_pos_0 o_pos_1 o_vel_0 o_vel_1", "o_pos_0 o_pos_1 o_vel_0 o_vel_1"),
        ("o_*", "o_pos_10 o_pos_2 o_vel_10 o_vel_2", "o_pos_2 o_pos_10 o_vel_2 o_vel_10"),
        ("o_*", "o_pos_0 o_vel_0 o_pos_1 o_vel_1", "o_pos_0 o_vel_0 o_pos_1 o_vel_1"),
        ("o_*", "o_10 o_2 o_goal", "o_10 o_2 o_goal"),
        ("o[*]", "o[10] o[2] o", "o[2] o[10]"),
        ("o?[0-9]*", "o1 o?[0-9]3 o?[0-9]1", "o?[0-9]1 o?[0-9]3"),
    ],
)
def test_only_numbers_behind_the_same_name_are_sorted(pattern, file, found):
    keys = Keys(observations=pattern)
    assert chosen("x", file.split(), keys, "observations") == tuple(found.split())


def test_names_that_say_nothing_are_asked_for(tmp_path):
    (tmp_path / "a.csv").write_text("joint_0,act,reward,terminal\n1,2,3,0\n1,2,3,1\n")
    refused(
        tmp_path / "a.csv",
        *("'joint_0'", "if they are what they seem: --config.dataset.actions=act; say what to"),
        "(several by comma, * for any text): --config.dataset.observations=NAME",
    )
    refused(tmp_path / "a.csv", "there is no ','", keys=Keys(observations=","))


def test_a_kind_of_file_that_nobody_reads(tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"\x89MCAP0\r\n")
    refused(tmp_path / "a.mcap", "of a kind that is not read", "HDF5, npz, CSV or Parquet")
    # By its content it is HDF5, whatever its name.
    path = write(tmp_path / "a.mat", make_columns())
    assert read(path)[0].lengths.tolist() == [3, 2]


# HDF5


@pytest.mark.parametrize(("code", "title"), [(32001, "Blosc"), (32015, "Zstandard")])
def test_a_filter_that_is_not_installed(tmp_path, monkeypatch, code, title):
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    path = write(tmp_path / "a.hdf5", {k: v for k, v in make_columns().items() if k != "actions"})
    with h5py.File(path, "a") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((ROWS, 1))
        created.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((ROWS, 1))
        h5py.h5d.create(file.id, b"actions", h5py.h5t.NATIVE_FLOAT, space, created)
    refused(path, "'actions'", f"filter {code} ({title})", "pip install hdf5plugin", "h5repack")


def test_a_file_that_another_program_writes(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns())
    writer = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "open\n"
        refused(path, "another program has it open for writing")
        other.communicate("\n")
    assert read(path)[0].lengths.tolist() == [3, 2]


def test_groups_within_themselves(tmp_path):
    path = write(tmp_path / "a.hdf5", make_columns())
    with h5py.File(path, "a") as file:
        file["infos/again"] = file.create_group("more")
        file["more/back"] = file["infos"]
    assert read(path)[0].lengths.tolist() == [3, 2]


# CSV


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["the file is empty"]),
        ("0,1.5,2e-3\n1,2,3\n", ["the first line holds numbers", "names the columns"]),
        ("reward,reward\n1,2\n", ["'reward' stands twice"]),
        (
            "run,observation_0,action_0,reward\n0,1,2,3\n",
            [
                "'terminals' is missing",
                "'action_0'",
                "or --config.dataset.episode=NAME, if it numb",
            ],
        ),
        (
            "observation_0,action_0,reward,done\n1,2,3,1\n",
            ["terminals=done (or --config.dataset.timeouts=done, if it flags only cuts)"],
        ),
        ("episode,observation_0,action_0,reward\n0,1,x,3\n", ["'x'", "every row needs a number"]),
        ("episode,observation_0,action_0,reward\n0,1,,3\n", ["every row needs a number"]),
        ("episode,observation_0,action_0,reward\n0,1,2\n", ["every row needs a number"]),
        ("episode,observation_0,action_0,reward\n", ["0 transitions"]),
        ("a" * 200_000, ["field larger than", "is a quote not closed"]),
        (
            'note,observation_0,action_0,reward,terminal\n"5 in,0,0,0,0\n' + "a,0,0,0,0\n" * 20_000,
            ["field larger than", "is a quote not closed"],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:loadtxt")
def test_csv_that_cannot_be_read(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    refused(tmp_path / "a.csv", *words)


def test_csv_that_is_not_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    refused(tmp_path / "a.csv", "not a text file in UTF-8")
    # Behind as many names as fill what is read ahead.
    names = [*(f"observation_{i}" for i in range(1000)), "action_0", "reward", "terminal", "note"]
    text = f"{','.join(names)}\n{'0,' * 1003}caf\u00e9\n"
    (tmp_path / "a.csv").write_text(text, encoding="latin-1")
    refused(tmp_path / "a.csv", "not a text file in UTF-8")


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("True", "False"), ("true", "false")])
def test_csv_flags(tmp_path, yes, no):
    rows = [["1.5", "2", "3", no], ["2.5e0", "-2", "4", no], ["3.5", "0", "5", yes]]
    text = "\r\n".join(["observation_0, action_0, reward, terminal", "", *map(",".join, rows)])
    (tmp_path / "a.csv").write_text(text, encoding="utf-8-sig")
    data, heard = read(tmp_path / "a.csv")
    assert heard == []
    assert data.terminals.tolist() == [False, False, True]
    assert data.next_observations.tolist() == [[2.5], [3.5], [3.5]]


def test_csv_without_a_terminal_column(tmp_path):
    lines = ["episode,observation_0,action_0,reward", "0,1,0,1", "0,2,0,1", "1,3,0,1", "1,4,0,1"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    data, heard = read(tmp_path / "a.csv")
    assert len(heard) == 1
    assert "all count as cut by a time limit" in heard[0]
    assert data.lengths.tolist() == [1, 1]
    assert not data.terminals.any()


# Parquet


def parquet(path, **replaced):
    columns = {
        "episode": np.repeat([0, 1], 3),
        "observation": pa.array(list(make_columns()["observations"])),
        "action_0": np.zeros(ROWS),
        "reward": np.zeros(ROWS),
        "terminal": make_columns()["terminals"],
    }
    pa.parquet.write_table(pa.table(columns | replaced), path)
    return path


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"reward": pa.array([1.0, None, 1, 1, 1, 1])}, ["'reward' has no value in 1 rows"]),
        ({"action_0": ["a"] * ROWS}, ["'action_0' holds string, not numbers"]),
        (
            {"observation": pa.array([[1.0]] * 5 + [[1.0, 2.0]])},
            ["'observation'", "1 to 2 numbers"],
        ),
        (
            {"observation": pa.array([{"x": 1.0, "y": 2.0}] * ROWS)},
            ["'observation' holds struct<x: double, y: double>; each row needs a number or one"],
        ),
        (
            {"observation": pa.array([[[1.0], [2.0]]] * ROWS)},
            ["'observation' holds list<", "needs"],
        ),
        ({"episode": pa.array([{"x": 1}] * ROWS)}, ["'episode' holds struct<x: int64>"]),
        (
            {"reward": pa.array([[1.0, 2.0]] * ROWS)},
            ["'reward' holds lists of 2 values; rewards must be one in each row"],
        ),
    ],
)
def test_parquet_that_cannot_be_read(tmp_path, replaced, words):
    refused(parquet(tmp_path / "a.parquet", **replaced), *words)


def test_parquet_larger_than_the_memory(tmp_path, monkeypatch):
    """A million equal numbers take a few bytes in the file, and 8 MB when they are read."""
    column = np.ones(1_000_000)
    names = ("observation_0", "action_0", "reward", "terminal")
    pa.parquet.write_table(pa.table(dict.fromkeys(names, column)), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    monkeypatch.setattr(budget.memory, "of_host", lambda: (90_000_000, 0))
    refused(tmp_path / "a.parquet", "takes about 96.0 MB of memory, 90.0 MB are free")


def test_damaged_parquet(tmp_path):
    path = parquet(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    refused(path, "not a readable parquet file")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(path, "needs the package pyarrow", "tskd_jax[parquet]")


# npz and folders


def test_npz_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **make_columns())
    whole = path.read_bytes()
    for kept in (0, 10, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:kept])
        refused(path, "not a readable npz file")
    np.savez(path, **make_columns() | {"infos": np.array([{}], object)})
    refused(path, "not a readable npz file", "of numbers alone")
    np.savez(path, **make_columns())
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("next_observations.npy", "0 1 2")
    refused(path, "not a readable npz file (next_observations.npy is not an array)")
    np.savez(path, observations=np.zeros((3, 2)), actions=np.zeros((3, 1)), terminals=np.ones(3))
    refused(path, "'rewards' is missing")


def test_npz_with_something_else_in_it(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **make_columns(), masks=1 - make_columns()["terminals"])
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("README.txt", "how it was made")
    assert read(path)[0].terminals.tolist() == make_columns()["terminals"][:5].tolist()


def test_folders_that_cannot_be_read(tmp_path):
    refused(tmp_path, "no episode in it")
    columns = {k: v for k, v in make_columns().items() if k != "timeouts"}
    np.savez(tmp_path / "0.npz", **columns)
    np.savez(tmp_path / "1.npz", **columns | {"actions": np.zeros((ROWS, 3))})
    with pytest.raises(DatasetError, match=r"1\.npz: actions of shape \(6, 3\), but in 0\.npz"):
        read(tmp_path)
    np.savez(tmp_path / "1.npz", **columns | {"actions": np.zeros((4, 1))})
    with pytest.raises(DatasetError, match=r"1\.npz: actions has 4 rows, rewards have 6"):
        read(tmp_path)
    np.savez(tmp_path / "1.npz", **columns | {"next_observations": columns["observations"]})
    with pytest.raises(DatasetError, match=r"1\.npz: holds .* but 0\.npz"):
        read(tmp_path)
    np.savez(tmp_path / "0.npz", **columns | {"next_observations": columns["actions"]})
    with pytest.raises(DatasetError, match=r"1\.npz: next_observations of shape \(6, 2\), but in"):
        read(tmp_path)
    np.savez(tmp_path / "0.npz", **columns | {"rewards": np.zeros(ROWS, "M8[s]")})
    with pytest.raises(DatasetError, match=r"0\.npz: rewards holds datetime64\[s\], not numbers"):
        read(tmp_path)


def test_a_folder_of_npz_with_scalars(tmp_path):
    """One flag for the whole episode, though it has one step; but no action for all steps."""
    for number, steps in enumerate((3, 1)):
        episode = {
            "observations": np.full((steps + 1, 2), number),
            "actions": np.zeros((steps, 1)),
            "rewards": np.ones(steps),
            "terminals": np.array(True),
        }
        np.savez(tmp_path / f"{number}.npz", **episode)
    data, _ = read(tmp_path)
    assert data.lengths.tolist() == [3, 1]
    assert data.terminals.tolist() == [False, False, True, True]
    np.savez(tmp_path / "1.npz", **episode | {"actions": np.array(0.0)})
    refused(tmp_path, "1.npz: actions has no rows, rewards have 1")


def test_a_folder_of_any_names(tmp_path):
    """A digit that is not a decimal one; for a hash, a name that is not UTF-8."""
    for number, name in enumerate(("10", "2", "\u00b21")):
        columns = {k: v for k, v in make_columns().items() if k != "timeouts"}
        np.savez(tmp_path / f"{name}.npz", **columns | {"rewards": np.full(ROWS, number)})
    assert read(tmp_path)[0].rewards[::5].tolist() == [1, 0, 2]
    before = content_hash(tmp_path)
    (tmp_path / os.fsdecode(b"a\xff.txt")).write_text("how it was made")
    assert content_hash(tmp_path) != before


def test_a_folder_of_csv_with_columns_in_another_order(tmp_path):
    rows = {"joint_knee": 1, "joint_hip": 2, "after_knee": 3, "after_hip": 4, "motor": 0}
    keys = Keys(observations="joint_*", actions="motor", next_observations="after_*")
    for number, names in enumerate((list(rows), list(reversed(rows)))):
        lines = [",".join([*names, "reward"]), ",".join([*(str(rows[one]) for one in names), "1"])]
        (tmp_path / f"{number}.csv").write_text("\n".join(lines))
    data, _ = read(tmp_path, keys)
    assert data.observations.tolist() == [[1, 2], [1, 2]]
    assert data.next_observations.tolist() == [[3, 4], [3, 4]]
    text = (tmp_path / "1.csv").read_text()
    (tmp_path / "1.csv").write_text(text.replace("joint_hip", "joint_toe"))
    with pytest.raises(DatasetError, match=r"1\.csv: observations are of other columns than in 0"):
        read(tmp_path, keys)


def test_lerobot_that_cannot_be_read(tmp_path):
    (tmp_path / "meta").mkdir()
    info = tmp_path / "meta/info.json"
    for text in ("", "[]", "{}", '{"features": ["a"]}', '{"features": {"a": "float32"}}'):
        info.write_text(text)
        with pytest.raises(DatasetError, match="does not describe a LeRobot dataset"):
            read(tmp_path)
    info.write_text(json.dumps({"features": {}}))
    refused(tmp_path, "no frames")
    (tmp_path / "data").mkdir()
    frames = {
        "observation.state": pa.array([[1.0, 2.0]] * 3),
        "action": pa.array([[1.0]] * 3),
        "episode_index": [0, 0, 0],
    }
    pa.parquet.write_table(pa.table(frames), tmp_path / "data/a.parquet")
    refused(tmp_path, "'rewards' is missing", "'observation.state'")
    pa.parquet.write_table(
        pa.table(frames | {"next.reward": [1.0] * 3}), tmp_path / "data/a.parquet"
    )
    pa.parquet.write_table(pa.table(frames), tmp_path / "data/b.parquet")
    refused(tmp_path, "b.parquet: column 'next.reward' is missing, which a.parquet has")
    frames["next.reward"] = [1.0] * 3
    for replaced, words in (
        (
            {"observation.state": pa.array([[1.0]] * 3)},
            "'observation.state' is of shape (3, 1), but",
        ),
        ({"observation.state": pa.array([[[1.0]]] * 3)}, "'observation.state' holds list<"),
    ):
        pa.parquet.write_table(pa.table(frames | replaced), tmp_path / "data/b.parquet")
        refused(tmp_path, f"b.parquet: column {words}")
    pa.parquet.write_table(
        pa.table(frames | {"next.reward": pa.array([[1.0, 2.0]] * 3)}), tmp_path / "data/a.parquet"
    )
    (tmp_path / "data/b.parquet").unlink()
    refused(tmp_path, "'next.reward' holds lists of 2 values; rewards must be one in each row")
