"""Tests of what is known about the environments, against the simulators themselves."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tskd_jax.config import make_config
from tskd_jax.data.d4rl_files import FILES
from tskd_jax.data.load import BUNDLED
from tskd_jax.envs.entries import OWN, TASKS, Config, get_task
from tskd_jax.envs.environment import make_environment
from tskd_jax.errors import ConfigError

ALL = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
KITCHENS = ("kitchen_partial", "kitchen_mixed")  # tests/envs/test_kitchen.py
MUJOCO = {name: task for name, task in TASKS.items() if name not in KITCHENS}
SIMULATED = pytest.mark.parametrize("task", MUJOCO.values(), ids=MUJOCO)


@SIMULATED
def test_sizes_are_the_simulators(task):
    env = make_environment(task.gymnasium_id)
    assert env.observation_space.shape == (task.state_size,)
    assert env.action_space.shape == (task.action_size,)
    np.testing.assert_array_equal(env.action_space.low, task.bounds.low)
    np.testing.assert_array_equal(env.action_space.high, task.bounds.high)
    assert env.spec.max_episode_steps == task.episode_limit
    if task.position_size is not None:
        # The observation is the state but for the position along the track.
        assert env.unwrapped.model.nq == task.position_size + 1
        assert env.unwrapped.model.nv == task.state_size - task.position_size
    env.close()


@SIMULATED
def test_the_termination_rule_is_the_simulators(task):
    env = make_environment(task.gymnasium_id)
    states, terminated = [], []
    for seed in range(6):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        ended = False
        # Random actions fall soon, the ant after a while; the halfcheetah never does.
        for _ in range(1000 if task.name == "ant" else 150):
            state, _, ended, _, _ = env.step(env.action_space.sample())
            states.append(state)
            terminated.append(ended)
            if ended:
                break
    env.close()
    # As the teacher asks: in single precision, many at once, compiled.
    alive = jax.jit(task.alive)(np.array(states, np.float32))
    np.testing.assert_array_equal(alive, ~np.array(terminated))
    assert any(terminated) == (task.name != "halfcheetah")


def place(task, **entries: float) -> np.ndarray:
    """A healthy state, with some entries (`_0`, `_1`, …) replaced."""
    state = np.zeros(task.state_size, np.float32)
    state[0] = 0.75 if task.name == "ant" else 1.25
    for entry, value in entries.items():
        state[int(entry.removeprefix("_"))] = value
    return state


@pytest.mark.parametrize(
    ("name", "entries", "alive"),
    [
        ("hopper", {}, True),
        ("hopper", {"_0": 0.71}, True),
        ("hopper", {"_0": 0.69}, False),
        ("hopper", {"_0": 1e6}, True),
        ("hopper", {"_1": 0.19}, True),
        ("hopper", {"_1": -0.19}, True),
        ("hopper", {"_1": 0.21}, False),
        ("hopper", {"_1": -0.21}, False),
        ("hopper", {"_10": 99}, True),
        ("hopper", {"_10": -101}, False),
        ("hopper", {"_5": np.nan}, False),
        ("hopper", {"_0": np.inf}, False),
        ("walker2d", {}, True),
        ("walker2d", {"_0": 0.79}, False),
        ("walker2d", {"_0": 0.81}, True),
        ("walker2d", {"_0": 1.99}, True),
        ("walker2d", {"_0": 2.01}, False),
        ("walker2d", {"_1": 0.99}, True),
        ("walker2d", {"_1": -1.01}, False),
        ("walker2d", {"_16": 101}, True),
        ("walker2d", {"_0": np.nan}, False),
        ("halfcheetah", {"_0": -50, "_1": 7}, True),
        ("ant", {"_0": 0.21}, True),
        ("ant", {"_0": 0.19}, False),
        ("ant", {"_0": 0.99}, True),
        ("ant", {"_0": 1.01}, False),
        ("ant", {"_110": np.inf}, False),
    ],
)
def test_the_termination_rule_at_its_bounds(name, entries, alive):
    task = get_task(name)
    assert bool(task.alive(place(task, **entries))) is alive


@ALL
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3)])
def test_the_termination_rule_takes_any_leading_shape(task, shape):
    states = np.broadcast_to(place(task), (*shape, task.state_size))
    alive = np.asarray(task.alive(states))
    assert alive.shape == shape
    assert alive.dtype == bool
    assert alive.all()


@ALL
def test_scores(task):
    assert task.normalized_score(task.random_return) == 0
    assert task.normalized_score(task.expert_return) == 100
    middle = (task.random_return + task.expert_return) / 2
    np.testing.assert_allclose(task.normalized_score(np.array([[middle]])), [[50]])


def test_references_are_d4rls():
    assert {name: (task.random_return, task.expert_return) for name, task in TASKS.items()} == {
        "hopper": (-20.272305, 3234.3),
        "halfcheetah": (-280.178953, 12135.0),
        "walker2d": (1.629008, 4592.3),
        "ant": (-325.6, 3879.7),
        "kitchen_partial": (0.0, 4.0),
        "kitchen_mixed": (0.0, 4.0),
    }


@SIMULATED
def test_the_version_is_the_one_of_d4rl(task):
    assert task.gymnasium_id.endswith("-v4")
    with make_environment(task.gymnasium_id) as env:
        assert env.spec.max_episode_steps == task.episode_limit


def test_unknown_name():
    with pytest.raises(ConfigError, match="'humanoid' is unknown; one of hopper, halfcheetah"):
        get_task("humanoid")


def test_what_a_config_takes_over():
    assert {name: dict(task.levels) for name, task in TASKS.items()} == {
        "hopper": {
            "embedded": "hopper-sac-replay",
            "medium": "hopper-medium-v2",
            "medium-replay": "hopper-medium-replay-v2",
            "medium-expert": "hopper-medium-expert-v2",
        },
        "halfcheetah": {
            "embedded": "halfcheetah-sac-replay",
            "medium": "halfcheetah-medium-v2",
            "medium-replay": "halfcheetah-medium-replay-v2",
            "medium-expert": "halfcheetah-medium-expert-v2",
        },
        "walker2d": {
            "embedded": "walker2d-sac-replay",
            "medium": "walker2d-medium-v2",
            "medium-replay": "walker2d-medium-replay-v2",
            "medium-expert": "walker2d-medium-expert-v2",
        },
        "ant": {
            "medium": "ant-medium-v2",
            "medium-replay": "ant-medium-replay-v2",
            "medium-expert": "ant-medium-expert-v2",
        },
        "kitchen_partial": {"partial": "kitchen-partial-v0"},
        "kitchen_mixed": {"mixed": "kitchen-mixed-v0"},
    }
    assert {name: task.default_level for name, task in TASKS.items()} == {
        "hopper": "embedded",
        "halfcheetah": "embedded",
        "walker2d": "embedded",
        "ant": "medium-replay",
        "kitchen_partial": "partial",
        "kitchen_mixed": "mixed",
    }
    assert {name for task in TASKS.values() for name in task.levels.values()} <= {
        *FILES,
        *BUNDLED,
    }
    # ρ and ξ of Appendix B for the first three; of the others it has none.
    overrides = {
        name: (task.overrides["stitching"]["radius"], task.overrides["filter"]["margin"])
        for name, task in TASKS.items()
    }
    assert overrides == {
        "hopper": (0.1, 500.0),
        "halfcheetah": (3.0, 1000.0),
        "walker2d": (1.0, 1000.0),
        "ant": (1.0, 1000.0),
        "kitchen_partial": (1.0, 1.0),
        "kitchen_mixed": (1.0, 1.0),
    }
    assert all(
        set(task.overrides) == {"stitching", "filter"}
        and all(len(fields) == 1 for fields in task.overrides.values())
        for task in TASKS.values()
    )


def test_what_the_other_methods_take_over():
    configs = {name: make_config(name, "quick") for name in (*TASKS, OWN)}
    # What is published suits D4RL's data. Of others it is the best recorded return, by 0.
    assert {one.decision_transformer.target_return for one in configs.values()} == {0.0}
    configs = {name: make_config(name, "paper") for name in (*TASKS, OWN)}
    targets = {name: one.decision_transformer.target_return for name, one in configs.items()}
    assert targets == dict.fromkeys(configs, 0.0) | {
        "hopper": 3600.0,
        "halfcheetah": 6000.0,
        "walker2d": 5000.0,
    }


@pytest.mark.parametrize("preset", ["quick", "small", "paper"])
@pytest.mark.parametrize("name", [*TASKS, OWN])
def test_only_an_end_that_may_be_a_success_goes_without_penalty(name, preset):
    # In Kitchen an end is what was aimed at, and of an environment of one's own nobody knows.
    config, known = make_config(name, preset), name in ("hopper", "halfcheetah", "walker2d", "ant")
    assert config.trajectory_transformer.terminal_penalty == (100.0 if known else 0.0)
    planners = 100.0 if known and preset == "paper" else 0.0
    assert config.decision_diffuser.termination_penalty == planners
    assert config.value_guide.termination_penalty == planners


@ALL
def test_a_task_is_a_constant(task):
    # A static argument of compiled programs: hashable, and equal where the environment is.
    assert hash(task) == hash(replace(task, levels={}))
    assert task == replace(task, default_level="", overrides={})
    assert task != replace(task, episode_limit=7)
    for mapping in (task.levels, task.overrides, task.overrides["filter"]):
        with pytest.raises(TypeError):
            mapping["margin"] = 1.0


def test_the_section_of_the_environment():
    allowed = Config.__dataclass_fields__["name"].metadata["allowed"]
    assert all(allowed.check(name) for name in TASKS)
    assert not allowed.check("humanoid")
    assert Config().name == "hopper"
