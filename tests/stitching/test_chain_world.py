"""Stitching in a world whose best stitch is known (`chain_world`)."""

import numpy as np
import pytest
from stitching.chain_world import (
    BEST,
    LIMIT,
    B,
    C,
    actions_between,
    clone,
    make_ensemble,
    make_recorded,
    make_value,
    reaches_goal,
    rewards_between,
    step,
)

from tskd_jax.data.trajectories import RECORDED, STITCHED, Trajectories
from tskd_jax.stitching.stitch import stitch
from tskd_jax.stitching.successors import Config, find_successors


def make_stitched(rule: str, **fields) -> tuple[Trajectories, dict, np.ndarray]:
    config = Config(**{"rule": rule, "radius": 0.1} | fields)
    recorded = make_recorded()
    successors, _ = find_successors(recorded, make_ensemble(), make_value(), config)
    stitched, metrics = stitch(
        recorded,
        successors,
        lambda s, s_next: (actions_between(s, s_next), rewards_between(s, s_next)),
        episode_limit=LIMIT,
        acceptance=0.1,
        allow_cycles=config.allow_cycles,
    )
    return stitched, metrics, successors


def test_no_recorded_path_leads_from_start_to_goal():
    recorded = make_recorded()
    from_start = (recorded.initial_observations == 0).all(1)
    assert from_start.sum() == 9
    assert recorded.returns()[from_start].tolist() == 9 * [0]
    assert recorded.returns()[~from_start].tolist() == [0, 10]
    np.testing.assert_allclose(
        step(recorded.observations, recorded.actions), recorded.next_observations, atol=1e-6
    )


@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_the_best_stitch_is_found(rule):
    stitched, metrics, successors = make_stitched(rule)
    for episode in range(9):
        path = stitched.select(np.array([episode]))
        np.testing.assert_allclose(path.observations, BEST[:-1], atol=1e-6)
        np.testing.assert_allclose(path.next_observations, BEST[1:], atol=1e-6)
        # 1.05/2 at the two bends, ½ elsewhere.
        np.testing.assert_allclose(
            path.actions[:, 0], [0.5, 0.5, 0.525, 0.5, 0.525, 0.5, 0.5], atol=1e-6
        )
        assert path.rewards.tolist() == [0, 0, 0, 0, 0, 0, 10]
        assert path.terminals.tolist() == 6 * [False] + [True]
        sources = [RECORDED, RECORDED, STITCHED, RECORDED, STITCHED, RECORDED, RECORDED]
        assert path.source.tolist() == sources
    # B reaches the goal too, through C; C is as it was.
    assert stitched.returns().tolist() == 11 * [10]
    np.testing.assert_allclose(
        stitched.select(np.array([9])).observations, [*B[:5], *C[3:-1]], atol=1e-6
    )
    assert metrics["trajectories_replaced"] == 10
    # One edge for each copy of A, one for B; A's nine copies walk B's too.
    assert (successors >= 0).sum() == metrics["edges_unique"] == 10
    assert metrics["edges_walked"] == 9 + 10


@pytest.mark.parametrize("rule", ["value_first", "density_first"])
def test_a_radius_below_the_gap_finds_nothing(rule):
    # The bends are 0.05 apart.
    stitched, metrics, _ = make_stitched(rule, radius=0.04)
    assert metrics["trajectories_replaced"] == 0
    assert stitched.returns().max() == 10
    assert (stitched.returns() == 0).sum() == 10


def test_cloning_reaches_the_goal_from_stitched_data_alone():
    recorded, (stitched, _, _) = make_recorded(), make_stitched("value_first")
    # The best recorded path, which a filter would keep, has not seen the start.
    best = recorded.select(np.array([recorded.returns().argmax()]))
    for data in (recorded, best):
        assert [reaches_goal(policy) for policy in clone(data)] == [False, False]
    assert [reaches_goal(policy) for policy in clone(stitched)] == [True, True]
