"""Any columns at all, through the loader: right or refused, never anything else.

Bytes at random, and thousands of files: experiments/hardening/fuzz.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tskd_jax.data.arrays import RANKS, from_arrays
from tskd_jax.data.checks import DatasetChecks
from tskd_jax.errors import DatasetError

TYPES = ("<f2", "<f4", ">f8", "i1", "u8", "bool", "S2", "c8")


def column(rank: int):
    """Mostly right: numbers of that rank; sometimes another shape, type, or no number at all."""
    right = st.tuples(*[st.integers(1, 6)] * rank)
    shapes = st.one_of(right, right, right, hnp.array_shapes(min_dims=0, min_side=0))
    return st.tuples(st.sampled_from(TYPES), shapes).flatmap(lambda pair: hnp.arrays(*pair))


def flags(rows: int):
    return hnp.arrays(bool, rows)


@st.composite
def any_columns(draw):
    keys = draw(st.sets(st.sampled_from(sorted(RANKS)), min_size=3))
    return {key: draw(column(RANKS[key])) for key in keys}


@st.composite
def fitting_columns(draw):
    """Columns that fit together, with any numbers in them."""
    rows, size = draw(st.integers(2, 12)), draw(st.integers(1, 3))
    numbers = st.floats(width=32) if draw(st.booleans()) else st.floats(-10, 10, width=32)
    columns = {
        "observations": draw(hnp.arrays(np.float32, (rows, size), elements=numbers)),
        "actions": draw(hnp.arrays(np.float32, (rows, 1), elements=numbers)),
        "rewards": draw(hnp.arrays(np.float32, rows, elements=numbers)),
        "terminals": draw(flags(rows)),
    }
    if draw(st.booleans()):
        columns["timeouts"] = draw(flags(rows))
    if draw(st.booleans()):
        columns["next_observations"] = draw(hnp.arrays(np.float32, (rows, size), elements=numbers))
    return columns


def test_columns_that_are_single_numbers_are_refused():
    names = ("observations", "actions", "rewards", "next_observations")
    columns = dict.fromkeys(names, np.zeros((), np.float32)) | {"timeouts": np.zeros(1)}
    cut, refused = "all count as cut by a time limit", r"shape \(\), expected"
    with pytest.warns(match=cut), pytest.raises(DatasetError, match=refused):
        from_arrays(columns)


@settings(max_examples=150, deadline=None)
@given(st.one_of(any_columns(), fitting_columns()), st.booleans())
def test_right_or_refused(columns, drop_invalid):
    before = {key: column.copy() for key, column in columns.items()}
    warned = []
    try:
        data = from_arrays(columns, "file", DatasetChecks(drop_invalid, 5, warn=warned.append))
    except DatasetError as error:
        refused = str(error)
    else:
        refused = None
    if refused is not None:
        assert "\n" not in refused
        assert refused.startswith("file: ")
        return
    for key, column in before.items():
        np.testing.assert_array_equal(columns[key], column)
    # Each kept row is a row of the file, in its order, and none is in two episodes.
    assert data.lengths.sum() == data.size
    assert (data.lengths > 0).all()
    for field in (data.observations, data.actions, data.rewards, data.next_observations):
        assert len(field) == data.size
        assert np.isfinite(field).all()
    rows = [tuple(row) for row in before["observations"].astype(np.float32)]
    kept = iter(rows)
    assert all(tuple(row) in kept for row in data.observations)
    # Nothing but the last row of an episode is terminal.
    inside = np.setdiff1d(np.arange(data.size), data.ends)
    assert not data.terminals[inside].any()
    if len(rows) - data.size and not warned and "next_observations" in before:
        # What is left out without a word is the fragment behind the last end.
        ends = before["terminals"] | before.get("timeouts", False)
        assert "timeouts" in before
        assert not ends[data.size :].any()
