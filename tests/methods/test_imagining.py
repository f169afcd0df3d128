"""What is imagined: where it starts, and how it ends."""

import jax
import numpy as np
import pytest
from methods.traced import TracedRun

from tskd_jax.config import finalize, make_config
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.methods import Experiment
from tskd_jax.methods.base import Teacher
from tskd_jax.methods.parts import imagining
from tskd_jax.teacher import imagination
from tskd_jax.training.callbacks import TrainingCallbacks


@pytest.fixture
def three_episodes(tiny_trajectories) -> Trajectories:
    """Ended by the rule; ended, though the rule does not say so; cut."""
    data = tiny_trajectories.select(np.array([0, 3, 2]))
    following = np.array(data.next_observations)
    following[data.ends[1], 0] = 0.5
    return data.replace(next_observations=following)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_end_in_doubt_is_a_failure_only_where_it_does_not_pay(
    three_episodes, tiny_task, monkeypatch, sign
):
    data = three_episodes.replace(rewards=sign * np.abs(three_episodes.rewards))
    np.testing.assert_array_equal(
        np.flatnonzero(imagining.ends_in_doubt(data, tiny_task)), data.ends[1:2]
    )
    monkeypatch.setattr(imagination, "imagine", lambda *args, **options: [data])
    teacher = Teacher(None, None)  # pyright: ignore[reportArgumentType]
    states = data.initial_observations
    (imagined,), (metrics,) = imagining.imagine(
        *(imagination.Config(), None, teacher, tiny_task, states, np.array([7, 8, 9]), 3, 50),
        False,
        keys=jax.random.key(0)[None],
        callbacks=TrainingCallbacks(),
    )
    ended = imagined.terminals[imagined.ends]
    np.testing.assert_array_equal(ended, [True, sign > 0, False])
    assert metrics["doubted"] == pytest.approx(1 / 3)
    assert sorted(imagined.origin[imagined.starts]) == [7, 8, 9]


def test_episodes_start_in_rows_of_the_whole_dataset(tiny_trajectories, monkeypatch):
    config = finalize(make_config("hopper", "quick"))[0]
    own = tiny_trajectories.select(np.arange(1, 24, 2))  # the others are held out
    exp = Experiment("tskd", config, get_task("hopper"), own, TracedRun(own))
    seen = []
    monkeypatch.setattr(Experiment, "stage", lambda self, *args, **options: seen.append(args))
    monkeypatch.setattr(imagining, "pooled", lambda parts: parts)
    teacher = Teacher(None, None)  # pyright: ignore[reportArgumentType]
    imagining.imagine_episodes(exp, [teacher])
    ((*_, states, origin, _, _, _),) = seen
    np.testing.assert_array_equal(states, tiny_trajectories.observations[origin])
