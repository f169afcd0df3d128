"""Several teachers: what each imagines, is asked for, and is trained on."""

from dataclasses import replace

import numpy as np
import pytest

from tskd_jax.config import finalize, make_config
from tskd_jax.errors import ConfigError
from tskd_jax.models import baseline
from tskd_jax.teacher import pool
from tskd_jax.teacher.trajectory_generator import SamplingConfig


def test_shares_differ_by_at_most_one_and_leave_none():
    config = pool.Config(count=3)
    assert [config.share(11, index) for index in range(3)] == [4, 4, 3]
    assert pool.Config().share(11, 0) == 11


def test_targets_are_multiples_of_the_configs_own():
    sampling = SamplingConfig(target_return=0.8)
    config = pool.Config(count=2, target_factors=(1.0, 1.5))
    assert config.sampling(sampling, 0) == sampling
    assert config.sampling(sampling, 1) == replace(sampling, target_return=0.8 * 1.5)
    same = pool.Config(count=2)
    assert same.sampling(sampling, 1) == sampling


def test_episodes_are_drawn_with_replacement(tiny_trajectories):
    first, again, other = (pool.draw_episodes(tiny_trajectories, 0, index) for index in (1, 1, 2))
    count = len(tiny_trajectories.lengths)
    assert len(first.lengths) == len(other.lengths) == count
    np.testing.assert_array_equal(first.origin, again.origin)
    assert not np.array_equal(np.unique(first.origin), np.unique(other.origin))
    drawn = np.unique(first.origin[first.starts])
    assert len(drawn) < count
    assert set(drawn) <= set(tiny_trajectories.starts)
    # The network that values a drawn episode has not seen it where it was recorded either.
    recorded_half = baseline.half_of(tiny_trajectories)
    np.testing.assert_array_equal(baseline.half_of(first), recorded_half[first.origin])
    only = tiny_trajectories.select(np.array([3]))
    np.testing.assert_array_equal(pool.draw_episodes(only, 0, 1).origin, only.origin)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teachers.count": 3, "teachers.target_factors": (1.0, 2.0)}, "2 numbers for"),
        (
            {
                "teachers.count": 2,
                "teachers.target_factors": (1.0, 2.0),
                "sampling.target_quantile": 0.9,
            },
            "a target that is not used",
        ),
        ({"stitching.max_disagreement_quantile": 0.9}, "with one DDR-II"),
        ({"teachers.target_factors": ()}, "one or more numbers"),
        (
            {"teachers.count": 3, "imagination.trajectories": 2, "stitching.epochs": 1},
            "more than the 2 trajectories",
        ),
    ],
)
def test_contradictions_are_named(changes, said):
    config = make_config("hopper", "quick")
    for name, value in changes.items():
        section, key = name.split(".")
        config[section][key] = value
    with pytest.raises(ConfigError, match=said):
        finalize(config)
