"""Recorded transitions in the simulator: of another environment, or columns out of step."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from tskd_jax.data import load_dataset
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.recorded_check import check_dynamics, check_rule
from tskd_jax.errors import DatasetError

HOPPER = TASKS["hopper"]


@pytest.fixture(scope="module")
def recorded() -> Trajectories:
    """The first 100 episodes of the embedded dataset: random and early behaviour."""
    return load_dataset("hopper-sac-replay").select(np.arange(100))


@pytest.fixture
def heard():
    return []


def test_what_is_right_is_silent(recorded, heard):
    check_dynamics(HOPPER, recorded, "x", 500, heard.append)
    check_rule(HOPPER, recorded, "x", heard.append)
    assert heard == []


@pytest.mark.parametrize(("shift", "words"), [(1, "one row late"), (-1, "one row early")])
@pytest.mark.parametrize("column", ["actions", "rewards"])
def test_columns_out_of_step(recorded, column, shift, words):
    rolled = recorded.replace(**{column: np.roll(getattr(recorded, column), shift, 0)})
    with pytest.raises(DatasetError, match=f"the {column} are {words}"):
        check_dynamics(HOPPER, rolled, "x", 300, pytest.fail)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {
            key: (getattr(data, key) - data.observations.mean(0)) / data.observations.std(0)
            for key in ("observations", "next_observations")
        },
        lambda data: {"actions": data.actions[np.random.default_rng(0).permutation(data.size)]},
    ],
    ids=["normalised states", "actions of other rows"],
)
def test_what_leads_elsewhere(recorded, change):
    with pytest.raises(DatasetError, match="not data of Hopper-v4"):
        check_dynamics(HOPPER, recorded.replace(**change(recorded)), "x", 300, pytest.fail)


def record(gymnasium_id: str, **options) -> Trajectories:
    """Random actions for 300 steps, of an environment that does not end."""
    rng = np.random.default_rng(0)
    columns = []
    with gymnasium.make(gymnasium_id, **options) as environment:
        state, _ = environment.reset(seed=0)
        for _ in range(300):
            action = rng.uniform(-1, 1, environment.action_space.shape)
            following, reward, terminal, _, _ = environment.step(action)
            columns.append((state, action, reward, following, terminal))
            state = following
    names = ("observations", "actions", "rewards", "next_observations", "terminals")
    made = dict(zip(names, map(np.array, zip(*columns, strict=True)), strict=True))
    return from_columns(lengths=[300], **made)


def test_another_environment_of_the_same_sizes(heard):
    cheetah = record("HalfCheetah-v4")
    with pytest.raises(DatasetError, match="not data of Walker2d-v4"):
        check_dynamics(TASKS["walker2d"], cheetah, "x", 300, pytest.fail)
    check_rule(TASKS["walker2d"], cheetah, "x", heard.append)
    assert any("lead to a state that is an end by walker2d's termination rule" in h for h in heard)


def test_other_rewards_are_a_matter_of_taste(recorded, heard):
    check_dynamics(HOPPER, recorded.replace(rewards=2 * recorded.rewards), "x", 300, heard.append)
    (line,) = heard
    assert "rewards differ from Hopper-v4's in 100% of 300 rows" in line


def test_slightly_other_physics(recorded, heard):
    noise = np.random.default_rng(0).normal(size=recorded.observations.shape)
    off = recorded.next_observations + 0.01 * recorded.observations.std(0) * noise
    moved = recorded.replace(next_observations=off.astype(np.float32))
    check_dynamics(HOPPER, moved, "x", 300, heard.append)
    (line,) = heard
    assert "recorded transitions are 0.0094 standard deviations off" in line


def test_flags_against_the_rule(recorded, heard):
    ends = np.zeros(recorded.size, bool)
    ends[recorded.ends] = True
    cut = recorded.truncate(np.maximum(recorded.lengths - 5, 1))
    as_terminal = np.zeros(cut.size, bool)
    as_terminal[cut.ends] = True
    check_rule(HOPPER, cut.replace(terminals=as_terminal), "x", heard.append)
    (line,) = heard
    assert f"{len(cut.lengths)} terminals are not ends by hopper's termination rule" in line

    heard.clear()
    check_rule(HOPPER, recorded.replace(terminals=np.zeros_like(ends)), "x", heard.append)
    (line,) = heard
    assert "rows lead to a state that is an end" in line


def test_where_nothing_can_be_tried(recorded, heard):
    rolled = recorded.replace(actions=np.roll(recorded.actions, 1, 0))
    check_dynamics(replace(HOPPER, position_size=None), rolled, "x", 300, heard.append)
    check_dynamics(replace(HOPPER, gymnasium_id=""), rolled, "x", 300, heard.append)
    check_dynamics(HOPPER, rolled, "x", 0, heard.append)
    assert heard == []
