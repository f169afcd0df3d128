"""The task of a config: by name, by Gymnasium, or by the data alone."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs import own
from tskd_jax.envs.entries import TASKS, Config
from tskd_jax.errors import ConfigError, DatasetError
from tskd_jax.policy import Bounds


def data(states: int, actions: int, lengths=(30, 50)) -> Trajectories:
    rows, rng = sum(lengths), np.random.default_rng(0)
    return from_columns(
        observations=rng.normal(size=(rows, states)),
        actions=rng.uniform(-1, 1, size=(rows, actions)),
        rewards=rng.normal(size=rows),
        next_observations=rng.normal(size=(rows, states)),
        terminals=np.zeros(rows, bool),
        lengths=np.array(lengths),
    )


def test_by_name_it_is_the_entry():
    assert own.task_of(Config("hopper"), data(11, 3), "x") is not None
    assert own.task_of(Config("hopper"), data(11, 3), "x") == TASKS["hopper"]
    assert own.known_limit(Config("hopper")) == 1000


def test_another_version_keeps_the_rule_and_not_the_score():
    task = own.task_of(Config("hopper", "Hopper-v5"), data(11, 3), "x")
    assert task.gymnasium_id == "Hopper-v5"
    assert task.alive is TASKS["hopper"].alive
    assert task.normalized_score(1234.5) == 1234.5
    assert own.task_of(Config("hopper", "Hopper-v4"), data(11, 3), "x") == TASKS["hopper"]


def test_an_environment_of_other_sizes_is_no_version_of_the_named_one():
    with pytest.raises(ConfigError) as caught:
        own.task_of(Config("hopper", "Walker2d-v4"), data(11, 3), "x")
    line = str(caught.value)
    assert "gymnasium_id=Walker2d-v4 has states of size 17 and actions of size 6" in line
    assert "hopper has 11 and 3" in line
    assert "\n" not in line


@pytest.mark.parametrize("settable", [True, False])
def test_a_version_whose_states_cannot_be_set_is_not_tried(settable, spaces, monkeypatch):
    if settable:
        monkeypatch.setattr(Toy, "set_state", lambda *_: None, raising=False)
    task = own.task_of(Config("hopper", "TskdHopper-v0"), data(11, 3), "x")
    assert task.position_size == (5 if settable else None)
    assert own.task_of(Config("hopper", "Hopper-v5"), data(11, 3), "x").position_size == 5


def test_of_gymnasium_sizes_bounds_and_limit_are_read():
    config = Config("own", "InvertedDoublePendulum-v5")
    task = own.task_of(config, data(9, 1), "x")
    assert (task.state_size, task.bounds) == (9, Bounds((-1.0,), (1.0,)))
    assert task.episode_limit == own.known_limit(config) == 1000
    assert task.simulated
    assert not task.rule_known
    assert task.position_size is None
    assert task.random_return is None


def test_the_limit_can_be_given():
    for config in (
        Config("own", "Ant-v5", 70),
        Config("own", "", 70),
        Config("own", episode_limit=70),
    ):
        task = own.task_of(config, data(105, 8), "x")
        assert task.episode_limit == own.known_limit(config) == 70


def test_without_a_simulator_the_data_say_everything():
    recorded = data(14, 6)
    recorded.actions[:, 0] = 0.25
    task = own.task_of(Config("own"), recorded, "x")
    assert own.known_limit(Config("own")) is None
    assert (task.state_size, task.action_size, task.episode_limit) == (14, 6, 50)
    np.testing.assert_allclose(task.bounds.low[1:], recorded.actions.min(0)[1:])
    np.testing.assert_allclose(task.bounds.high[1:], recorded.actions.max(0)[1:])
    # A constant action keeps its value, within what a tanh can reach.
    np.testing.assert_allclose((task.bounds.low[0], task.bounds.high[0]), 0.25, atol=2e-3)
    assert task.bounds.low[0] < task.bounds.high[0]
    assert not task.simulated
    assert bool(task.alive(np.full((2, 14), 1e9)).all())


@pytest.mark.parametrize("config", [Config("hopper"), Config("own", "Ant-v5")])
def test_data_of_another_environment_are_refused(config):
    with pytest.raises(DatasetError, match=r"x: states of size 14 and actions of size 6, but"):
        own.task_of(config, data(14, 6), "x")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CartPole-v1", "its actions are Discrete"),
        ("NoSuchRobot-v0", "Gymnasium cannot make it"),
        ("no_such_package:Robot-v0", "Gymnasium cannot make it"),
        ("TskdImages-v0", "no images"),
        ("TskdBlind-v0", "it has no observation_space"),
        ("TskdParalysed-v0", "it has no action_space"),
        ("TskdUnbounded-v0", "no bounds"),
        ("TskdFixed-v0", "dimension 1 of its actions is fixed, at 0 … 0;"),
        ("TskdTooClose-v0", "dimension 0 of its actions is fixed, at 1 … 1;"),
        ("TskdHuge-v0", "dimension 1 of its actions has no bounds that mean anything, -3.4"),
    ],
)
def test_what_is_not_supported_gets_one_line(name, words, spaces):
    with pytest.raises(ConfigError) as caught:
        own.task_of(Config("own", name), data(11, 3), "x")
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dict_observations_are_vectors_in_the_order_of_the_space(spaces):
    task = own.task_of(Config("own", "TskdDict-v0"), data(5, 2), "x")
    assert task.state_size == 5
    environment = own.make_environment("TskdDict-v0")
    observation, _ = environment.reset()
    np.testing.assert_array_equal(observation, [1, 1, 2, 2, 2])
    environment.close()


class Toy(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        if observation_space is not None:
            self.observation_space = observation_space
        if action_space is not None:
            self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        return {"b": np.full(3, 2.0), "a": np.full(2, 1.0)}, {}


@pytest.fixture(scope="module")
def spaces():
    box = gymnasium.spaces.Box
    bounded = box(-1, 1, (2,))
    largest = float(np.finfo(np.float32).max)
    made = {
        "TskdFixed-v0": (box(-1, 1, (3,)), box(np.float32([-1, 0]), np.float32([1, 0]))),
        "TskdTooClose-v0": (box(-1, 1, (3,)), box(1, 1 + 1e-12, (2,), np.float64)),
        "TskdHuge-v0": (
            box(-1, 1, (3,)),
            box(np.float32([-1, -largest]), np.float32([1, largest])),
        ),
        "TskdHopper-v0": (box(-np.inf, np.inf, (11,)), box(-1, 1, (3,))),
        "TskdImages-v0": (box(0, 255, (8, 8, 3), np.uint8), bounded),
        "TskdBlind-v0": (None, bounded),
        "TskdParalysed-v0": (box(-1, 1, (3,)), None),
        "TskdUnbounded-v0": (box(-1, 1, (3,)), box(-np.inf, np.inf, (2,))),
        "TskdDict-v0": (
            gymnasium.spaces.Dict({"b": box(-9, 9, (3,)), "a": box(-9, 9, (2,))}),
            bounded,
        ),
    }
    for name, (states, actions) in made.items():
        gymnasium.register(name, lambda states=states, actions=actions: Toy(states, actions))
    yield
    for name in made:
        del gymnasium.registry[name]


def test_the_config_of_own_is_checked():
    from tskd_jax.config import finalize, make_config

    config = make_config("own", "paper")
    assert finalize(config)[0].referee.episodes == 40
    config.referee.episodes = 0
    with pytest.raises(ConfigError, match=r"nothing would judge"):
        finalize(config)
    config.environment.gymnasium_id = "Ant-v5"
    assert finalize(config)[0].environment == replace(Config("own"), gymnasium_id="Ant-v5")
