"""Tests of `Trajectories`: its bookkeeping, against loops and by hand."""

import tracemalloc

import numpy as np
import pytest

from tskd_jax.data.trajectories import (
    COLUMNS,
    IMAGINED,
    RECORDED,
    STITCHED,
    Trajectories,
    concatenate,
    describe,
    from_columns,
    ranges,
)


def make(episodes: list[list[float]], terminal: list[bool] | None = None) -> Trajectories:
    """Episodes of those rewards; each state is its row number, so that rows can be told apart."""
    lengths = np.array([len(rewards) for rewards in episodes])
    rows = np.arange(lengths.sum(), dtype=np.float32)[:, None]
    terminals = np.zeros(len(rows), bool)
    terminals[np.cumsum(lengths) - 1] = [True] * len(lengths) if terminal is None else terminal
    return from_columns(
        observations=rows,
        actions=-rows,
        rewards=np.concatenate(episodes),
        next_observations=rows + 1,
        terminals=terminals,
        lengths=lengths,
    )


def rows_of(trajectories: Trajectories) -> list[int]:
    return trajectories.observations[:, 0].astype(int).tolist()


def check_consistent(trajectories: Trajectories) -> None:
    assert trajectories.lengths.sum() == trajectories.size
    assert (trajectories.lengths > 0).all()
    for name in COLUMNS:
        assert len(getattr(trajectories, name)) == trajectories.size


def test_positions_of_episodes():
    data = make([[1, 1, 1], [1], [1, 1]])
    assert data.size == 6
    assert data.starts.tolist() == [0, 3, 4]
    assert data.ends.tolist() == [2, 3, 5]
    assert data.episode_of.tolist() == [0, 0, 0, 1, 2, 2]
    assert data.initial_observations[:, 0].tolist() == [0, 3, 4]


def test_columns_have_the_types_that_are_promised():
    data = from_columns(
        observations=np.zeros((2, 3), np.float64),
        actions=np.zeros((2, 1), np.int32),
        rewards=[1, 2],
        next_observations=np.zeros((2, 3), np.float16),
        terminals=np.array([0, 1], np.uint8),
        lengths=[2],
        source=IMAGINED,
    )
    for name in ("observations", "actions", "rewards", "next_observations"):
        assert getattr(data, name).dtype == np.float32
    assert data.terminals.dtype == bool
    assert data.terminals.tolist() == [False, True]
    assert data.lengths.dtype == np.int64
    assert data.source.dtype == np.int8
    assert data.source.tolist() == [IMAGINED, IMAGINED]
    assert make([[1.0]]).source.tolist() == [RECORDED]


def test_the_origin_of_a_recorded_transition_is_its_own_row():
    data = make([[1, 1, 1], [1], [1, 1]])
    assert data.origin.dtype == np.int64
    assert data.origin.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.select(np.array([2, 0])).origin.tolist() == [4, 5, 0, 1, 2]
    assert data.truncate(np.array([2, 0, 1])).origin.tolist() == [0, 1, 4]
    stays = np.array([True, False, True, True, False, True])
    assert data.pieces(stays).origin.tolist() == [0, 2, 3, 5]
    both = concatenate([data.select(np.array([1])), data])
    assert both.origin.tolist() == [3, 0, 1, 2, 3, 4, 5]


def test_what_was_not_recorded_has_no_origin_unless_it_is_named():
    columns = {
        "observations": np.zeros((3, 1)),
        "actions": np.zeros((3, 1)),
        "rewards": np.zeros(3),
        "next_observations": np.zeros((3, 1)),
        "terminals": np.zeros(3, bool),
        "lengths": [2, 1],
    }
    imagined = from_columns(**columns, source=IMAGINED)
    assert imagined.origin.tolist() == [-1, -1, -1]
    mixed = from_columns(**columns, source=[STITCHED, RECORDED, IMAGINED])
    assert mixed.origin.tolist() == [-1, 1, -1]
    assert from_columns(**columns, origin=[7, 8, -1]).origin.tolist() == [7, 8, -1]
    # Only the first transition of an episode starts in a recorded state.
    started = imagined.started_from(np.array([5, 9]))
    assert started.origin.tolist() == [5, -1, 9]
    assert started.origin.dtype == np.int64
    assert started.truncate(np.array([0, 1])).origin.tolist() == [9]


def test_returns_are_undiscounted_sums():
    np.testing.assert_array_equal(make([[1, 2, 3], [-4], [0.5, 0.25]]).returns(), [6, -4, 0.75])


def test_returns_of_many_small_rewards_do_not_lose_digits():
    # In float32 a running sum of 0.1 is off by more than 1 after 200,000 terms.
    data = make([[0.1] * 200_000])
    assert data.returns()[0] == pytest.approx(200_000 * float(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("discount", [0.0, 0.5, 0.99, 1.0])
def test_returns_to_go_are_the_double_sum(discount):
    rng = np.random.default_rng(0)
    episodes = [rng.normal(size=n).tolist() for n in (1, 7, 3, 1, 12)]
    expected = [
        sum(discount ** (u - t) * float(np.float32(rewards[u])) for u in range(t, len(rewards)))
        for rewards in episodes
        for t in range(len(rewards))
    ]
    actual = make(episodes).returns_to_go(discount)
    assert actual.dtype == np.float64
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.parametrize("discount", [0.3, 0.997, 1.0])
def test_returns_to_go_are_those_of_a_loop_to_the_last_digit(discount):
    rng = np.random.default_rng(1)
    episodes = [rng.normal(size=n).astype(np.float32) for n in rng.integers(1, 60, 40)]
    expected = []
    for rewards in episodes:
        after, backwards = 0.0, []
        for reward in rewards[::-1].tolist():
            after = reward + discount * after
            backwards.append(after)
        expected += backwards[::-1]
    np.testing.assert_array_equal(make(episodes).returns_to_go(discount), expected)


def test_returns_to_go_of_one_long_episode_among_short_ones_take_little_memory():
    data = make([[1.0] * 20_000, *([1.0] for _ in range(1_000))])
    tracemalloc.start()
    try:
        data.returns_to_go(0.99)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000  # a table of all episodes, as long as the longest: 160 MB


def test_returns_to_go_by_hand():
    # γ = ½: R_2 = 4, R_1 = 2 + 4/2 = 4, R_0 = 1 + 4/2 = 3; the second episode starts anew.
    assert make([[1, 2, 4], [10]]).returns_to_go(0.5).tolist() == [3, 4, 4, 10]


def test_select_by_index_and_by_mask():
    data = make([[1, 1, 1], [1], [1, 1]])
    chosen = data.select(np.array([2, 0]))
    assert rows_of(chosen) == [4, 5, 0, 1, 2]
    assert chosen.lengths.tolist() == [2, 3]
    check_consistent(chosen)
    chosen = data.select(np.array([True, False, True]))
    assert rows_of(chosen) == [0, 1, 2, 4, 5]
    assert chosen.lengths.tolist() == [3, 2]
    again = data.select(np.array([1, 1]))
    assert rows_of(again) == [3, 3]
    assert again.lengths.tolist() == [1, 1]


@pytest.mark.parametrize("nothing", [np.arange(0), np.zeros(3, bool)])
def test_select_nothing(nothing):
    chosen = make([[1, 1], [1], [1]]).select(nothing)
    assert chosen.size == len(chosen.lengths) == 0
    assert chosen.observations.shape == (0, 1)
    assert chosen.returns().shape == (0,)


def test_select_moves_every_column_alike():
    data = make([[5, 6], [7, 8, 9]], [True, False]).select(np.array([1]))
    assert data.rewards.tolist() == [7, 8, 9]
    assert data.actions[:, 0].tolist() == [-2, -3, -4]
    assert data.next_observations[:, 0].tolist() == [3, 4, 5]
    assert data.terminals.tolist() == [False, False, False]


def test_take():
    data = make([[1, 1, 1], [1]]).take(np.array([3, 1]), np.array([1, 1]))
    assert rows_of(data) == [3, 1]
    assert data.lengths.tolist() == [1, 1]


def test_an_episode_falls_apart_where_transitions_are_cut_out():
    stays = np.array([True, False, True, True, True, True, False, False])
    data = make([[1, 1, 1], [1], [1, 1], [1, 1]]).pieces(stays)
    assert rows_of(data) == [0, 2, 3, 4, 5]
    # Neighbours that both stay are one piece only where they were one episode.
    assert data.lengths.tolist() == [1, 1, 1, 2]
    check_consistent(data)


@pytest.mark.parametrize("stays", [True, False])
def test_pieces_of_everything_and_of_nothing(stays):
    data = make([[1, 1, 1], [1]])
    assert data.pieces(np.full(4, stays)).lengths.tolist() == ([3, 1] if stays else [])


def test_truncate_keeps_beginnings_and_drops_empty_episodes():
    data = make([[1, 1, 1], [1], [1, 1]]).truncate(np.array([2, 0, 2]))
    assert rows_of(data) == [0, 1, 4, 5]
    assert data.lengths.tolist() == [2, 2]
    # A cut episode no longer ends in a terminal state; a whole one still does.
    assert data.terminals.tolist() == [False, False, False, True]
    check_consistent(data)


def test_truncate_everything_away():
    assert make([[1, 1], [1]]).truncate(np.array([0, 0])).size == 0


def test_concatenate_keeps_order():
    both = concatenate([make([[1, 2], [3]]), make([[4]])])
    assert both.rewards.tolist() == [1, 2, 3, 4]
    assert both.lengths.tolist() == [2, 1, 1]
    assert both.starts.tolist() == [0, 2, 3]
    check_consistent(both)


def test_concatenate_with_nothing_changes_nothing():
    data = make([[1, 2], [3]])
    both = concatenate([data.select(np.arange(0)), data])
    assert rows_of(both) == rows_of(data)
    assert both.lengths.tolist() == [2, 1]


def test_selecting_all_and_concatenating_halves_are_the_identity():
    data = make([[1], [2, 3], [4, 5, 6], [7]])
    halves = concatenate([data.select(np.array([0, 1])), data.select(np.array([2, 3]))])
    for same in (halves, data.select(np.arange(4)), data.truncate(data.lengths)):
        for name in (*COLUMNS, "lengths"):
            np.testing.assert_array_equal(getattr(same, name), getattr(data, name))


def test_fragments_are_truncated_and_short():
    # Terminal and short; truncated and short (a fragment); truncated at the limit of 4; likewise
    # but without its last transition, as a file without next states leaves it.
    data = make([[1, 1], [1, 1], [1, 1, 1, 1], [1, 1, 1]], [True, False, False, False])
    assert data.fragments(4).tolist() == [False, True, False, False]


def test_ranges():
    assert ranges(np.array([5, 0, 9]), np.array([2, 3, 1])).tolist() == [5, 6, 0, 1, 2, 9]
    assert ranges(np.array([5, 7, 9]), np.array([1, 0, 1])).tolist() == [5, 9]
    assert ranges(np.arange(0), np.arange(0)).tolist() == []


def test_describe_by_hand():
    # Returns 1, 5 and 12: mean 6, median 5; lengths 1, 2, 3: mean 2.
    about = describe(make([[1], [2, 3], [4, 4, 4]], [True, False, True]))
    assert about["transitions"] == 6
    assert about["episodes"] == 3
    assert about["terminal_episodes"] == 2
    assert about["mean_length"] == 2
    assert about["return_mean"] == 6
    assert about["return_quantiles"]["0"] == 1
    assert about["return_quantiles"]["50"] == 5
    assert about["return_quantiles"]["100"] == 12
