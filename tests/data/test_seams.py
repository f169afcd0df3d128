"""Rows that should follow each other and do not; next states that were never recorded."""

import numpy as np
import pytest

from tskd_jax.data.arrays import from_arrays
from tskd_jax.data.checks import DatasetChecks
from tskd_jax.errors import DatasetError

LENGTHS = (30, 20, 40, 25, 35)
ENDS = np.cumsum(LENGTHS) - 1
INNER = sum(LENGTHS) - len(LENGTHS)


def columns() -> dict[str, np.ndarray]:
    """Five episodes of a random walk, the second and fourth ended by a terminal."""
    rng, rows = np.random.default_rng(0), sum(LENGTHS)
    states = [np.cumsum(rng.normal(size=(n + 1, 3)), 0).astype(np.float32) for n in LENGTHS]
    terminals, timeouts = np.zeros((2, rows), bool)
    terminals[ENDS[[1, 3]]] = timeouts[ENDS[[0, 2, 4]]] = True
    return {
        "observations": np.concatenate([one[:-1] for one in states]),
        "next_observations": np.concatenate([one[1:] for one in states]),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": terminals,
        "timeouts": timeouts,
    }


def read(changed: dict[str, np.ndarray]):
    heard: list[str] = []
    return from_arrays(columns() | changed, "x", DatasetChecks(warn=heard.append)), heard


def test_what_is_right_is_silent():
    data, heard = read({})
    assert heard == []
    np.testing.assert_array_equal(data.lengths, LENGTHS)


@pytest.mark.parametrize(
    ("what", "fill"),
    [
        ("not finite", lambda _, c: np.full(c["observations"].shape, np.nan)),
        ("the first of the next episode", lambda _, c: np.roll(c["observations"], -1, 0)),
        ("zeros", lambda _, c: np.zeros(c["observations"].shape)),
        ("the state itself", lambda _, c: c["observations"]),
    ],
)
def test_a_next_state_that_nobody_recorded(what, fill):
    given = columns()
    changed = given["next_observations"].copy()
    ends = ENDS[:4] if what.startswith("the first") else ENDS
    changed[ends] = fill(None, given)[ends]
    data, heard = read({"next_observations": changed})
    (line,) = heard
    assert f"is {what} at {len(ends)} of 5 ends" in line
    # As if it were absent: truncated episodes lose their last transition, a terminal keeps its own
    # state as a stand-in.
    lost = [int(end in ends and not given["terminals"][end]) for end in ENDS]
    np.testing.assert_array_equal(data.lengths, np.array(LENGTHS) - lost)
    terminal = data.terminals
    assert terminal.sum() == 2
    np.testing.assert_array_equal(data.next_observations[terminal], data.observations[terminal])


def test_a_next_state_that_is_kept_in_another_precision():
    given = columns()
    states = given["observations"].astype(np.float64) + np.pi * 1e-9
    following = given["next_observations"].copy()
    following[ENDS[:4]] = states[ENDS[:4] + 1]
    assert (following[ENDS[:4]] != states[ENDS[:4] + 1]).all()
    data, heard = read({"observations": states, "next_observations": following})
    assert "is the first of the next episode at 4 of 5 ends" in heard[0]
    assert data.size == sum(LENGTHS) - 2


def test_rows_behind_the_last_end_are_told_where_no_limit_says_what_is_usual():
    given = columns()
    cut = {key: one[:-5] for key, one in given.items()}
    for limit, lines in ((None, 1), (30, 0), (29, 1)):
        heard: list[str] = []
        data = from_arrays(cut, "x", DatasetChecks(episode_limit=limit, warn=heard.append))
        assert data.size == sum(LENGTHS[:4])
        assert len([one for one in heard if "the last 30" in one]) == lines
    assert len(heard) == 2  # with the limit of 29, episodes are too long, too


def test_unordered_rows_that_follow_each_other():
    """That a next state is the next row's is no placeholder; one that is not finite is."""
    given, heard = columns(), []
    checks = DatasetChecks(unordered=True, warn=heard.append)
    kept = from_arrays(given, checks=checks)
    assert heard == []
    np.testing.assert_array_equal(kept.next_observations, given["next_observations"])
    given["next_observations"][3] = np.nan
    assert from_arrays(given, checks=checks).size == sum(LENGTHS) - 1
    (line,) = heard
    assert f"is not finite at 1 of {sum(LENGTHS)} ends" in line


def test_unordered_rows_need_next_states():
    given = columns()
    del given["next_observations"]
    with pytest.raises(DatasetError, match="'next_observations' is missing: unordered rows need"):
        from_arrays(given, checks=DatasetChecks(unordered=True))


def test_a_robot_that_stands_still_is_no_habit():
    still = np.ones_like(columns()["observations"])
    data, heard = read({"observations": still, "next_observations": still})
    assert heard == []
    np.testing.assert_array_equal(data.lengths, LENGTHS)


def test_shuffled_rows_are_refused():
    given = columns()
    order = np.random.default_rng(1).permutation(len(given["rewards"]))
    inside = ("observations", "next_observations", "actions", "rewards")
    with pytest.raises(DatasetError, match=r"do not lead to .* first row 0; rows"):
        read({key: given[key][order] for key in inside})


def test_environments_by_turns_are_refused():
    given = columns()
    order = np.arange(len(given["rewards"])).reshape(2, -1).T.ravel()
    with pytest.raises(DatasetError, match=r"of several environments by turns"):
        read({key: value[order] for key, value in given.items()})


def test_a_missing_end_is_told():
    timeouts = columns()["timeouts"].copy()
    timeouts[ENDS[0]] = False
    data, heard = read({"timeouts": timeouts})
    (line,) = heard
    assert f"1 of {INNER + 1} rows inside episodes" in line
    assert f"first row {ENDS[0]}; an end may not be flagged there" in line
    assert len(data.lengths) == 4


def test_shuffled_rows_in_half_precision_are_refused():
    """A sum of so many of its numbers is beyond half precision."""
    rows = 20_000
    states = (20 + np.random.default_rng(1).normal(size=(rows, 3))).astype(np.float16)
    flags = np.arange(rows) % 100 == 99
    given = {
        "observations": states,
        "next_observations": states[::-1],
        "actions": np.zeros((rows, 1)),
        "rewards": np.zeros(rows),
        "terminals": flags,
        "timeouts": np.zeros(rows, bool),
    }
    with np.errstate(over="ignore"):
        assert not np.isfinite(states.std(0)).all()
    with pytest.raises(DatasetError, match="rows are shuffled"):
        read(given)


def test_states_of_flags():
    given = columns()
    flags = {key: given[key] > 0 for key in ("observations", "next_observations")}
    data, heard = read(flags)
    assert heard == []
    np.testing.assert_array_equal(data.observations, flags["observations"])


def test_what_single_precision_rounds():
    """A coordinate of 5,400,000 m in steps of 0.05 m; the same from an offset is silent."""
    given = {key: one.astype(np.float64) for key, one in columns().items() if one.ndim == 2}
    near = {key: given[key] * [1, 0.05, 1] for key in ("observations", "next_observations")}
    assert read(near)[1] == []
    far = {key: one + np.array([0, 5.4e6, 0]) for key, one in near.items()}
    (line,) = read(far)[1]
    assert "rounds key 'observations' in columns 1 (counted from 0), by up to 0.25" in line
    assert "subtract an offset" in line
    # A large constant loses digits too, but nothing that moves.
    still = {key: np.array([1, 0, 1]) * one + [0, 5.4e6 + 0.1, 0] for key, one in near.items()}
    assert read(still)[1] == []


def test_shuffled_rows_without_next_states():
    """Nothing says what follows what, but such jumps are no robot's."""
    given = {key: column for key, column in columns().items() if key != "next_observations"}
    heard: list[str] = []
    from_arrays(given, "x", DatasetChecks(warn=heard.append))
    assert heard == []
    rng, order = np.random.default_rng(1), []
    for first, end in zip([0, *(ENDS[:-1] + 1)], ENDS, strict=True):
        order += [*(first + rng.permutation(end - first)), end]
    shuffled = given | {"observations": given["observations"][order]}
    from_arrays(shuffled, "x", DatasetChecks(warn=heard.append))
    (line,) = heard
    assert "neighbouring rows differ as much as any two rows" in line
    # One dimension that moves little by little is enough; a constant one says nothing.
    clock = np.concatenate([np.arange(n, dtype=np.float32) for n in LENGTHS])[:, None]
    for column, warnings in ((clock, 1), (np.zeros_like(clock), 2)):
        wider = shuffled | {"observations": np.hstack([shuffled["observations"], column])}
        from_arrays(wider, "x", DatasetChecks(warn=heard.append))
        assert len(heard) == warnings


@pytest.mark.filterwarnings("error")
def test_rows_that_are_not_finite_do_not_count_as_jumps():
    given = {key: column for key, column in columns().items() if key != "next_observations"}
    given["observations"][3, 1] = np.inf
    heard: list[str] = []
    from_arrays(given, "x", DatasetChecks(drop_invalid=True, warn=heard.append))
    (line,) = heard
    assert "1 episodes of 30 rows are dropped" in line
