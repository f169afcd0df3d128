"""Which episodes are kept, and what imagined transitions replace, by hand."""

import numpy as np
import pytest

from tskd_jax.data.selection import Config, best_episodes, select_episodes, substitute
from tskd_jax.data.trajectories import (
    IMAGINED,
    RECORDED,
    STITCHED,
    Trajectories,
    concatenate,
    from_columns,
)

LIMIT = 10


def make(episodes: list[list[float]], terminal: list[bool] | None = None) -> Trajectories:
    """Episodes of those rewards, all terminal by default."""
    lengths = np.array([len(rewards) for rewards in episodes])
    states = np.zeros((lengths.sum(), 1))
    terminals = np.zeros(len(states), bool)
    terminals[np.cumsum(lengths) - 1] = [True] * len(lengths) if terminal is None else terminal
    return from_columns(
        observations=states,
        actions=states,
        rewards=np.concatenate(episodes),
        next_observations=states,
        terminals=terminals,
        lengths=lengths,
    )


def episodes(*returns: float) -> Trajectories:
    """One terminal transition for each."""
    return make([[value] for value in returns])


def test_a_margin_below_the_best_is_exclusive():
    data = episodes(100, 71, 70, 69, -300)
    kept = select_episodes(Config("margin", margin=30.0), data, data, LIMIT, pytest.fail)
    assert kept.tolist() == [0, 1]


def test_a_margin_goes_by_the_data_not_by_what_was_recorded():
    config = Config("margin", margin=30.0)
    kept = select_episodes(config, episodes(50, 19), episodes(100), LIMIT, pytest.fail)
    assert kept.tolist() == [0]


def test_a_share_goes_by_what_was_recorded():
    # Of ten recorded transitions a quarter is three: 10, 9 and 8. What is as good as the last of
    # them is kept, of whatever data.
    recorded, config = episodes(*range(1, 11)), Config("share", share=0.25)
    kept = select_episodes(config, episodes(7.9, 8, 50), recorded, LIMIT, pytest.fail)
    assert kept.tolist() == [1, 2]


def test_where_a_step_costs_an_episode_that_was_cut_is_not_good():
    # Limit 5. Cut after one and two steps, it has lost little; the full ones lose 4, 3 and 5.
    data = make([[-1], [-1] * 4, [-1, -1], [-1] * 3, [-1] * 5], [False, True, False, True, False])
    for share, expected in ((0.2, [3]), (0.4, [1, 3]), (0.8, [1, 3, 4]), (0.85, [0, 1, 3, 4])):
        kept = select_episodes(Config("share", share=share), data, data, 5, pytest.fail)
        assert kept.tolist() == expected
        assert kept.tolist() == sorted(best_episodes(data, share, 5)[0])
    # Likewise of data that was made.
    made = make([[-1], [-1] * 3], [False, True])
    kept = select_episodes(Config("share", share=0.2), made, data, 5, pytest.fail)
    assert kept.tolist() == [1]


def test_where_a_step_pays_an_episode_that_was_cut_may_be_good():
    data = make([[9, 9], [1] * 5, [2] * 5], [False, True, True])
    kept = select_episodes(Config("share", share=0.3), data, data, 5, pytest.fail)
    assert kept.tolist() == [0, 2]


def test_no_rule_keeps_all():
    kept = select_episodes(Config("none"), episodes(1, -5), episodes(9), LIMIT, pytest.fail)
    assert kept.tolist() == [0, 1]


def test_episodes_are_kept_in_their_order():
    data = episodes(3, 5, 1, 4)
    kept = select_episodes(Config("margin", margin=2.5), data, data, LIMIT, pytest.fail)
    assert kept.tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    ("config", "data"),
    [
        # With ξ = 0 nothing is above the best.
        (Config("margin", margin=0.0), episodes(1, 5, 3)),
        # Nothing is as good as the best recorded one.
        (Config("share", share=0.5), episodes(1, 5, 3)),
    ],
)
def test_where_the_rule_keeps_none_the_best_one_is_used_with_a_warning(config, data):
    lines = []
    assert select_episodes(config, data, episodes(9), LIMIT, lines.append).tolist() == [1]
    assert lines == [
        "warning: config.filter keeps none of 3 trajectories; the best one, of return 5, is used "
        "alone"
    ]
    assert select_episodes(config, data, episodes(9), LIMIT).tolist() == [1]


def test_fragments_are_ranked_by_return_behind_full_episodes():
    # Limit 5: three truncated fragments of returns 10, 90, 20, and a full episode of return 5.
    data = make([[10], [90], [20], [1, 1, 1, 1, 1]], [False, False, False, True])
    chosen, least = best_episodes(data, 0.7, 5)
    assert chosen.tolist() == [3, 1]  # 5 of 8 rows are less than 70%, 6 are more
    assert least == 5


def test_best_episodes_by_hand():
    # Returns 3, 40, 5, 20; lengths 3, 4, 1, 2; N = 10. Best first: episodes 1, 3, 2, 0, holding
    # 4, 6, 7 and 10 transitions. A share of 0.4 needs the first alone, one of 0.5 the first two.
    data = make([[1, 1, 1], [10, 10, 10, 10], [5], [10, 10]])
    for share, expected in (
        (0.01, [1]),
        (0.4, [1]),
        (0.5, [1, 3]),
        (0.6, [1, 3]),
        (0.7, [1, 3, 2]),
    ):
        chosen, least = best_episodes(data, share, 1000)
        assert chosen.tolist() == expected
        assert least == data.returns()[expected[-1]]
    chosen, least = best_episodes(data, 1.0, 1000)
    assert chosen.tolist() == [1, 3, 2, 0]
    assert least == 3


def test_best_episodes_ranks_fragments_last():
    # Episode 1 has the highest return but was cut: it is no full episode.
    data = make([[1, 1], [50, 50], [2, 2]], [True, False, True])
    chosen, least = best_episodes(data, 0.5, 1000)
    assert chosen.tolist() == [2, 0]
    assert least == 2
    chosen, _ = best_episodes(data, 1.0, 1000)
    assert chosen.tolist() == [2, 0, 1]
    # At a limit of 2 it is whole.
    assert best_episodes(data, 0.3, 2)[0].tolist() == [1]


def test_best_episodes_of_nothing_but_fragments_ranks_by_return():
    data = make([[1, 1], [50, 50]], [False, False])
    chosen, least = best_episodes(data, 0.5, 1000)
    assert chosen.tolist() == [1]
    assert least == 100


@pytest.mark.parametrize("seed", range(5))
def test_best_episodes_hold_the_share_with_none_to_spare(seed):
    rng = np.random.default_rng(seed)
    episodes = [rng.normal(size=rng.integers(1, 30)).tolist() for _ in range(40)]
    data = make(episodes)
    for share in (0.05, 0.1, 0.5, 0.93):
        chosen, least = best_episodes(data, share, 1000)
        held = data.lengths[chosen].sum()
        assert held >= share * data.size
        assert held - data.lengths[chosen[-1]] < share * data.size
        left_out = np.setdiff1d(np.arange(40), chosen)
        assert data.returns()[left_out].max() <= least == data.returns()[chosen].min()


def steps(states, action, lengths, source, origin=None) -> Trajectories:
    """Transitions of one-dimensional states, all with that action."""
    states = np.asarray(states, np.float32)[:, None]
    return from_columns(
        observations=states,
        actions=np.full_like(states, action),
        rewards=np.zeros(len(states)),
        next_observations=states + 1,
        terminals=np.zeros(len(states), bool),
        lengths=lengths,
        source=source,
        origin=origin,
    )


def test_an_imagined_transition_replaces_what_was_recorded_from_its_state():
    recorded = steps([0, 1, 2, 3, 9], 0.0, [4, 1], RECORDED)
    stitched = steps([1, 7], 0.5, [2], STITCHED, origin=[1, -1])
    imagined = steps([1, 2], 1.0, [1, 1], IMAGINED).started_from(np.array([1, 2]))
    data = substitute(concatenate([recorded, stitched]), imagined)
    # 1 and 2 are taken from the first episode, which falls apart; a stitch stays what it is.
    assert data.observations[:, 0].tolist() == [0, 3, 9, 1, 7, 1, 2]
    assert data.actions[:, 0].tolist() == [0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert data.source.tolist() == [RECORDED] * 3 + [STITCHED] * 2 + [IMAGINED] * 2
    assert data.lengths.tolist() == [1, 1, 1, 2, 1, 1]


def test_a_transition_is_replaced_wherever_it_was_copied():
    # As after stitching: two paths run through row 4, and rows are out of order.
    recorded = steps(range(6), 0.0, [6], RECORDED)
    paths = recorded.take(np.array([3, 4, 5, 0, 4]), np.array([3, 2]))
    imagined = steps([4], 1.0, [1], IMAGINED).started_from(np.array([4]))
    data = substitute(paths, imagined)
    assert data.observations[:, 0].tolist() == [3, 5, 0, 4]
    assert data.actions[:, 0].tolist() == [0, 0, 0, 1]
    assert data.lengths.tolist() == [1, 1, 1, 1]


def test_later_steps_of_an_imagined_trajectory_replace_nothing():
    recorded = steps([0, 1, 2], 0.0, [3], RECORDED)
    imagined = steps([0, 1], 1.0, [2], IMAGINED).started_from(np.array([0]))
    data = substitute(recorded, imagined)
    assert data.observations[:, 0].tolist() == [1, 2, 0, 1]
    assert data.lengths.tolist() == [2, 2]


def test_imagined_transitions_that_are_kept_already_stay():
    # Of no recorded state: -1 is not an origin that two transitions can share.
    kept = concatenate([steps([0, 1], 0.0, [2], RECORDED), steps([5], 2.0, [1], IMAGINED)])
    imagined = steps([1, 6], 1.0, [2], IMAGINED).started_from(np.array([1]))
    data = substitute(kept, imagined)
    assert data.observations[:, 0].tolist() == [0, 5, 1, 6]


def test_where_nothing_was_accepted_everything_stays():
    recorded = steps([0, 1, 2], 0.0, [3], RECORDED)
    data = substitute(recorded, recorded.select(np.arange(0)))
    assert data.observations.tolist() == recorded.observations.tolist()
    assert data.lengths.tolist() == [3]


def test_imagined_transitions_must_say_where_they_start():
    with pytest.raises(ValueError, match="which recorded states they start in"):
        substitute(steps([0], 0.0, [1], RECORDED), steps([0], 1.0, [1], IMAGINED))
