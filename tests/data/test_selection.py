"""The filter: which episodes are kept, by hand."""

import numpy as np
import pytest

from tskd_jax.config import default_config
from tskd_jax.data.selection import kept_episodes, worth_imitating
from tskd_jax.data.trajectories import Trajectories, from_columns

LIMIT = 10


def episodes(*returns: float) -> Trajectories:
    """One terminal transition for each."""
    return from_columns(
        observations=np.zeros((len(returns), 1)),
        actions=np.zeros((len(returns), 1)),
        rewards=returns,
        next_observations=np.zeros((len(returns), 1)),
        terminals=np.ones(len(returns), bool),
        lengths=np.ones(len(returns)),
    )


def config(rule: str, **fields):
    filtering = default_config().filter
    filtering.update({"rule": rule} | fields)
    return filtering


def test_a_margin_below_the_best_is_exclusive():
    data = episodes(100, 71, 70, 69, -300)
    kept = kept_episodes(config("margin", margin=30.0), data, data, LIMIT)
    assert kept.tolist() == [True, True, False, False, False]


def test_a_margin_goes_by_the_data_not_by_what_was_recorded():
    kept = kept_episodes(config("margin", margin=30.0), episodes(50, 19), episodes(100), LIMIT)
    assert kept.tolist() == [True, False]


def test_a_share_goes_by_what_was_recorded():
    # Of ten recorded transitions a quarter is three: 10, 9 and 8. What is as good as the last of
    # them is kept, of whatever data.
    recorded = episodes(*range(1, 11))
    kept = kept_episodes(config("share", share=0.25), episodes(7.9, 8, 50), recorded, LIMIT)
    assert kept.tolist() == [False, True, True]


def test_no_rule_keeps_all():
    assert kept_episodes(config("none"), episodes(1, -5), episodes(9), LIMIT).all()


@pytest.mark.parametrize(
    ("margin", "expected"),
    # With ξ = 0 nothing is above the best: the best one stands in.
    [(2.5, [1, 2]), (0.0, [2])],
)
def test_what_is_worth_imitating(margin, expected):
    rows = worth_imitating(config("margin", margin=margin), episodes(1, 3, 5), LIMIT)
    assert rows.tolist() == expected
