"""Files and configs that people make themselves, through the command: exit status, one line, and a
working directory that is as before.

Over 300 lines: a list of mistakes, and what the command says of each.
"""

import h5py
import numpy as np
import pytest
from tiny import ROOT

from tskd_jax.data import load_dataset
from tskd_jax.machine import memory
from tskd_jax.main import main

ROWS, STATES, ACTIONS, LIMIT = 40, 11, 3, 1000


def upright(states):
    """States in which hopper has not fallen: height 1.2, angle 0."""
    states = np.array(states, np.float32)
    states[:, :2] = 1.2, 0.0
    return states


def make_columns(*left_out, **replaced):
    """Four episodes of ten steps: two end in a terminal state, two are cut."""
    rng = np.random.default_rng(0)
    terminals, timeouts = np.zeros(ROWS, bool), np.zeros(ROWS, bool)
    terminals[[9, 29]] = True
    timeouts[[19, 39]] = True
    states = upright(rng.normal(size=(ROWS, STATES)))
    following = np.roll(states, -1, 0)
    following[timeouts] = upright(rng.normal(size=(timeouts.sum(), STATES)))
    following[terminals] = 0  # on the ground
    columns = {
        "observations": states,
        "actions": rng.uniform(-1, 1, (ROWS, ACTIONS)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "next_observations": following,
        "terminals": terminals,
        "timeouts": timeouts,
    } | replaced
    return {key: column for key, column in columns.items() if key not in left_out}


def write(path, columns, **options):
    with h5py.File(path, "w") as file:
        for key, column in columns.items():
            file.create_dataset(key, data=column, **options)
    return path


def poisoned(key, rows, value):
    column = make_columns()[key].copy()
    column[rows] = value
    return make_columns(**{key: column})


@pytest.fixture
def run(tmp_path, capfd):
    """Runs the dataset stage on a file; gives (exit status, lines of stderr)."""
    capfd.readouterr()

    def run(path, *more):
        argv = [
            "tskd-jax",
            f"--config={ROOT / 'configs/hopper.py'}",
            f"--config.dataset.path={path}",
            f"--workdir={tmp_path / 'run'}",
            "--stop_after=dataset",
            "--config.evaluation.simulator_check=0",  # these states are made up
            *more,
        ]
        status = main(argv)
        captured = capfd.readouterr()
        assert captured.out == ""
        return status, captured.err.strip().splitlines()

    return run


@pytest.fixture
def refused(run, tmp_path):
    """The one line with which a file is refused; nothing is made."""

    def refused(path, *more):
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
        status, lines = run(path, *more)
        assert status == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("tskd-jax: ")
        assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
        return lines[0]

    return refused


@pytest.fixture
def warned(run):
    """The warnings with which a file is taken."""

    def warned(path, *more):
        status, lines = run(path, *more)
        assert status == 0, lines
        assert "stopped after dataset" in lines[-1]
        return [line for line in lines if line.startswith("warning: ")]

    return warned


# Refused


@pytest.mark.parametrize("content", [b"", b"observations,actions\n1,2\n", b"\x89HDF\r\n\x1a\n"])
def test_not_hdf5(refused, tmp_path, content):
    path = tmp_path / "a.hdf5"
    path.write_bytes(content)
    line = refused(path)
    assert str(path) in line
    assert "not a readable HDF5 file" in line


def test_truncated_anywhere(refused, tmp_path):
    content = write(tmp_path / "whole.hdf5", make_columns()).read_bytes()
    path = tmp_path / "a.hdf5"
    for kept in np.linspace(1, len(content) - 1, 25, dtype=int):
        path.write_bytes(content[:kept])
        assert "not a readable HDF5 file" in refused(path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (make_columns("rewards"), ["'rewards'", "missing"]),
        (make_columns(rewards=np.zeros((ROWS, 2))), ["'rewards'", "(40, 2)", "(N,) or (N, 1)"]),
        (make_columns(actions=np.zeros(ROWS)), ["'actions'", "(40,)", "(N, size)"]),
        (make_columns(actions=np.zeros((39, 3))), ["'actions'", "39 rows", "40"]),
        ({k: v[:0] for k, v in make_columns().items()}, ["0 transitions", "two"]),
        ({k: v[:1] for k, v in make_columns().items()}, ["1 transitions", "two"]),
        (make_columns(rewards=np.array([b"1"] * ROWS)), ["'rewards'", "not numbers"]),
        (make_columns(rewards=np.zeros(ROWS, complex)), ["'rewards'", "complex", "not numbers"]),
        (poisoned("observations", [7, 8], np.nan), ["'observations'", "2 rows", "row 7"]),
        (poisoned("actions", [3], np.inf), ["'actions'", "1 rows", "row 3"]),
        (poisoned("rewards", [5], -np.inf), ["'rewards'", "row 5", "drop_invalid=True"]),
        (poisoned("next_observations", [0], 1e30), ["'next_observations'", "beyond", "row 0"]),
        (make_columns(terminals=np.full(ROWS, 0.5)), ["'terminals'", "neither 0 nor 1", "0.5"]),
        (
            make_columns(terminals=np.zeros(ROWS, bool), timeouts=np.zeros(ROWS, bool)),
            ["no episode ends", "40 rows"],
        ),
        (
            make_columns(
                "next_observations", terminals=np.zeros(ROWS, bool), timeouts=np.ones(ROWS, bool)
            ),
            ["every row ends", "'next_observations'"],
        ),
        (make_columns(observations=np.zeros((ROWS, 17))), ["17", "11"]),
        (make_columns(actions=np.zeros((ROWS, 6))), ["6", "3"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_columns(refused, tmp_path, columns, words):
    line = refused(write(tmp_path / "a.hdf5", columns))
    for word in (str(tmp_path / "a.hdf5"), *words):
        assert word in line


def long_columns(*left_out, rows=LIMIT + 5):
    """One long stretch, whose only end is at row 2."""
    flags = np.zeros(rows, bool)
    flags[2] = True
    columns = {
        "observations": upright(np.zeros((rows, STATES))),
        "actions": np.zeros((rows, ACTIONS), np.float32),
        "rewards": np.arange(rows, dtype=np.float32),
        "terminals": flags,
        "timeouts": np.zeros(rows, bool),
    }
    return {key: column for key, column in columns.items() if key not in left_out}


def test_an_episode_longer_than_the_limit_and_no_timeouts(refused, tmp_path):
    line = refused(write(tmp_path / "a.hdf5", long_columns("timeouts")))
    assert "1 of 2 episodes are longer than the environment's 1000 steps" in line
    assert "from row 3 on, 1002 steps" in line
    assert "add 'timeouts'" in line


# Links and claims


def test_links_and_other_files_are_refused(refused, tmp_path):
    other = write(tmp_path / "other.hdf5", make_columns())
    raw = tmp_path / "secret"
    raw.write_bytes(bytes(8 * ROWS))
    path = tmp_path / "a.hdf5"
    layout = h5py.VirtualLayout(shape=(ROWS,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "rewards", shape=(ROWS,))

    def add_external_storage(file):
        file.create_dataset("rewards", (ROWS,), "f8", external=[(str(raw), 0, 8 * ROWS)])

    ways = {
        "is a link": [
            lambda file: file.__setitem__("rewards", h5py.SoftLink("/actions")),
            lambda file: file.__setitem__("rewards", h5py.ExternalLink(str(other), "/rewards")),
        ],
        "stored in another file": [
            add_external_storage,
            lambda file: file.create_virtual_dataset("rewards", layout),
        ],
    }
    for words, adders in ways.items():
        for add in adders:
            write(path, make_columns("rewards"))
            with h5py.File(path, "a") as file:
                add(file)
            line = refused(path)
            assert "'rewards'" in line
            assert words in line


@pytest.mark.parametrize("rows", [10**12, 10**9])
def test_a_claim_of_many_rows_is_refused_before_memory_is_taken(refused, tmp_path, rows):
    path = write(tmp_path / "a.hdf5", make_columns("observations"))
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", (rows, STATES), "f4", chunks=(1000, STATES))
    line = refused(path)
    assert f"claims shape ({rows}, 11)" in line


def test_more_than_the_memory_that_is_free(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "of_host", lambda: (5000, 5000))
    # 40 rows of 11 numbers of 4 bytes, three times over.
    line = refused(write(tmp_path / "a.hdf5", make_columns()))
    assert "'observations' of shape (40, 11) takes about 5 kB of memory, 5 kB are free" in line


# Minari


def write_minari(path, **replaced):
    with h5py.File(path, "w") as file:
        for number in range(2):
            group = file.create_group(f"episode_{number}")
            group["observations"] = np.zeros((11, STATES))
            group["actions"] = np.zeros((10, ACTIONS))
            group["rewards"] = np.zeros(10)
            group["terminations"] = np.arange(10) == 9
        for key, value in replaced.items():
            del file[f"episode_1/{key}"]
            file[f"episode_1/{key}"] = value
    return path


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"rewards": np.full(10, np.nan)}, ["'rewards'", "10 rows", "row 10"]),
        ({"rewards": np.zeros((10, 3))}, ["'episode_1/rewards'", "(10, 3)"]),
        ({"rewards": np.zeros(10, complex)}, ["'episode_1/rewards'", "not numbers"]),
        ({"observations": np.zeros(11)}, ["'episode_1/observations'", "(11,)"]),
        ({"observations": h5py.SoftLink("/episode_0/observations")}, ["observations", "link"]),
        ({"actions": h5py.ExternalLink("other.hdf5", "/actions")}, ["actions", "link"]),
        ({"actions": np.zeros((9, ACTIONS))}, ["episode_1", "9 actions", "10 rewards"]),
        ({"terminations": np.full(10, 7)}, ["'terminals'", "neither 0 nor 1", "row 10"]),
    ],
)
def test_minari_files(refused, tmp_path, replaced, words):
    line = refused(write_minari(tmp_path / "main_data.hdf5", **replaced))
    for word in (str(tmp_path / "main_data.hdf5"), *words):
        assert word in line


def test_a_minari_group_that_is_a_link(refused, tmp_path):
    path = write_minari(tmp_path / "main_data.hdf5")
    with h5py.File(path, "a") as file:
        file["episode_2"] = h5py.ExternalLink("/etc/passwd", "/")
    assert "'episode_2' is a link" in refused(path)


# Taken


@pytest.mark.parametrize(
    "variant",
    [
        lambda columns: {key: column.astype(np.float64) for key, column in columns.items()},
        lambda columns: columns | {"rewards": columns["rewards"].astype(np.int32)},
        lambda columns: columns | {"rewards": columns["rewards"][:, None]},
        lambda columns: columns | {"terminals": columns["terminals"].astype(np.uint8)[:, None]},
        lambda columns: {key: np.asfortranarray(column) for key, column in columns.items()},
    ],
    ids=["double", "int", "(N, 1)", "bytes", "fortran"],
)
@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": True}])
def test_forms_that_make_no_difference(warned, tmp_path, variant, options):
    columns = make_columns(rewards=np.arange(ROWS, dtype=np.float32))
    assert warned(write(tmp_path / "a.hdf5", variant(columns), **options)) == []
    data = load_dataset(tmp_path / "a.hdf5")
    for key in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_array_equal(getattr(data, key), columns[key])
    assert data.lengths.tolist() == [10] * 4


# Taken, with a word


def test_nothing_is_said_of_a_good_file(warned, tmp_path):
    assert warned(write(tmp_path / "a.hdf5", make_columns())) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e20])
def test_episodes_of_invalid_rows_can_be_dropped(warned, tmp_path, value):
    # Rows 12 and 15 are of the second episode, row 39 of the last: two of four, 20 of 40 rows.
    path = write(tmp_path / "a.hdf5", poisoned("observations", [12, 15, 39], value))
    (line,) = warned(path, "--config.dataset.drop_invalid=True")
    assert "2 episodes of 20 rows are dropped: 3 of those rows are not finite" in line


def test_all_episodes_invalid(refused, tmp_path):
    path = write(tmp_path / "a.hdf5", poisoned("rewards", [0, 10, 20, 30], np.nan))
    assert "every episode" in refused(path, "--config.dataset.drop_invalid=True")


def test_returns_that_say_nothing(warned, tmp_path):
    (line,) = warned(write(tmp_path / "a.hdf5", make_columns(rewards=np.full(ROWS, 0.5))))
    assert "all 4 returns are 5: no episode is better than another" in line


def test_every_row_an_end(warned, tmp_path):
    columns = make_columns(terminals=np.ones(ROWS, bool))
    columns["next_observations"] = columns["observations"] + 1
    (line,) = warned(write(tmp_path / "a.hdf5", columns))
    assert "every episode has one transition" in line


def test_an_episode_longer_than_the_limit(warned, tmp_path):
    columns = long_columns()
    columns["timeouts"][-1] = True
    (line,) = warned(write(tmp_path / "a.hdf5", columns))
    assert "1 of 2 episodes are longer" in line


def test_many_rows_without_an_end(warned, tmp_path):
    line, other = warned(write(tmp_path / "a.hdf5", long_columns()))
    assert "the last 1002 rows have no end and are dropped" in line
    assert "it is one episode of" in other


def test_actions_outside_the_bounds(warned, tmp_path):
    path = write(tmp_path / "a.hdf5", poisoned("actions", [0, 1], 2.5))
    (line,) = warned(path)
    assert "5.00% of the actions lie outside ±1, by up to 1.5" in line  # 2 of 40 rows


# Configs


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("stitching.radius=far", ["radius", "far"]),
        ("stitching.radius=nan", ["stitching.radius=nan", "finite"]),
        ("stitching.radius=inf", ["stitching.radius=inf", "finite"]),
        ("stitching.radius=-1.0", ["stitching.radius=-1.0", "≥ 0"]),
        ("student.batch_size=2.5", ["batch_size", "2.5"]),
        ("student.batch_size=0", ["student.batch_size=0", "≥ 1"]),
        ("student.steps=99999999999", ["student.steps", "2147483647"]),
        ("steps_multiplier=1e9", ["steps_multiplier", "2147483647"]),
        ("steps_multiplier=inf", ["steps_multiplier=inf", "finite"]),
        ("seed=-1", ["seed=-1", "≥ 0"]),
        ("seed=18446744073709551616", ["seed", "2147483647"]),
        ("seeds=(0,-1)", ["seeds", "whole numbers ≥ 0"]),
        ("student.hidden=(8,0)", ["hidden", "≥ 1"]),
        ("stitching.enabled=perhaps", ["enabled", "perhaps"]),
        ("filter.rule=best", ["filter.rule='best'", "margin | share | none"]),
        ("environment.name=chess", ["environment.name='chess'", "hopper"]),
        ("sampling.steps=500", ["sampling.steps=500", "diffusion_steps=100"]),
        ("stitching.raduis=1", ["config.stitching.raduis", "config.stitching.radius"]),
        ("stitching=1", ["section", "stitching.radius"]),
    ],
)
def test_configs_that_cannot_be(refused, tmp_path, flag, words):
    line = refused(tmp_path / "none.hdf5", f"--config.{flag}")
    for word in words:
        assert word in line
