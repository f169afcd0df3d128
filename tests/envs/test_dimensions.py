"""Names and units of the named environments, against the simulator's own model."""

import gymnasium
import mujoco
import numpy as np
import pytest

from tskd_jax.envs.dimensions import DIMENSIONS, Dimensions, dimensions
from tskd_jax.envs.entries import TASKS
from tskd_jax.envs.environment import make_environment
from tskd_jax.envs.simulator import control_hz
from tskd_jax.envs.tasks import Task
from tskd_jax.policy import Bounds

PLANAR = ("hopper", "halfcheetah", "walker2d")


@pytest.mark.parametrize("name", TASKS)
def test_a_name_and_a_unit_for_each_dimension(name):
    task, found = TASKS[name], DIMENSIONS[name]
    assert len(found.observation_names) == len(set(found.observation_names)) == task.state_size
    assert len(found.observation_units) == task.state_size
    assert len(found.action_names) == len(set(found.action_names)) == task.action_size
    assert len(found.action_units) == task.action_size


@pytest.mark.parametrize("name", PLANAR)
def test_names_are_those_of_the_joints_in_their_order(name):
    found = DIMENSIONS[name]
    with make_environment(TASKS[name].gymnasium_id) as environment:
        model = environment.unwrapped.model
    joints = [model.joint(place) for place in range(model.njnt)]
    names = [joint.name for joint in joints]
    assert found.observation_names == (*names[1:], *(f"{name}_velocity" for name in names))
    slides = [joint.type[0] == mujoco.mjtJoint.mjJNT_SLIDE for joint in joints]
    units = ["m" if slide else "rad" for slide in slides]
    assert found.observation_units == (*units[1:], *(f"{unit}/s" for unit in units))
    moved = [model.joint(model.actuator_trnid[place, 0]).name for place in range(model.nu)]
    assert found.action_names == tuple(moved)
    gears = model.actuator_gear[:, 0]
    assert found.action_units == tuple(f"{gear:g} N m" for gear in gears)


def test_of_the_ant():
    found = DIMENSIONS["ant"]
    with make_environment(TASKS["ant"].gymnasium_id) as environment:
        model = environment.unwrapped.model
    joints = [model.joint(place).name for place in range(1, model.njnt)]
    assert list(found.observation_names[5:13]) == joints
    assert list(found.observation_names[19:27]) == [f"{name}_velocity" for name in joints]
    moved = [model.joint(model.actuator_trnid[place, 0]).name for place in range(model.nu)]
    assert list(found.action_names) == moved
    assert set(model.actuator_gear[:, 0]) == {150}
    # Bodies in their order; the feet have no name in the XML file.
    bodies = [model.body(place).name for place in range(model.nbody)]
    ours = [name.rpartition("_torque_x")[0] for name in found.observation_names[27::6]]
    assert [left == right or not right for left, right in zip(ours, bodies, strict=True)]
    assert [one for one in ours if one.endswith("foot")] == [
        ours[place] for place, body in enumerate(bodies) if not body
    ]


def test_of_the_kitchen_by_its_goals():
    # gymnasium-robotics' OBS_ELEMENT_INDICES: places of what a subtask moves, in the positions.
    names = DIMENSIONS["kitchen_partial"].observation_names
    for first, count, word in (
        *((11, 2, "left"), (15, 2, "left"), (17, 2, "light")),
        *((19, 1, "slide_cabinet"), (20, 2, "hinge"), (22, 1, "microwave"), (23, 7, "kettle")),
    ):
        for place in range(first, first + count):
            assert word in names[place] or names[place].startswith("knob_Joint")
            assert names[30 + place] == f"goal_{names[place]}"


@pytest.mark.parametrize(("name", "hz"), [("hopper", 125), ("halfcheetah", 20), ("walker2d", 125)])
def test_the_control_rate(name, hz):
    assert control_hz(TASKS[name].gymnasium_id) == pytest.approx(hz)
    with make_environment(TASKS[name].gymnasium_id) as environment:
        assert environment.metadata["render_fps"] == hz


def test_an_environment_without_a_rate():
    assert control_hz("CartPole-v1") == pytest.approx(50)  # its `tau`
    assert control_hz("MountainCarContinuous-v0") is None


@pytest.mark.parametrize("seconds", [lambda _: {}["timestep"], lambda _: float("inf")])
def test_a_rate_that_cannot_be_computed_is_unknown(seconds):
    space = gymnasium.spaces.Box(-1, 1, (1,))
    facts = {"dt": property(seconds), "observation_space": space, "action_space": space}
    gymnasium.register("odd/Clockless-v0", type("Clockless", (gymnasium.Env,), facts))
    try:
        control_hz.cache_clear()
        assert control_hz("odd/Clockless-v0") is None
    finally:
        gymnasium.registry.pop("odd/Clockless-v0")


def test_of_another_robot_the_names_of_the_columns_count():
    own = Task("own", "", 2, Bounds.symmetric(1.0, 1), 10)
    names = {"observations": ("x", "v"), "actions": ("force",)}
    assert dimensions(own, names) == Dimensions(("x", "v"), (), ("force",), ())
    assert dimensions(own, {"observations": ("x",)}) == Dimensions()
    assert dimensions(TASKS["hopper"], names) == DIMENSIONS["hopper"]


def test_hopper_by_hand():
    found = DIMENSIONS["hopper"]
    assert found.observation_names[:3] == ("rootz", "rooty", "thigh_joint")
    assert found.observation_names[5:8] == ("rootx_velocity", "rootz_velocity", "rooty_velocity")
    assert found.observation_units[:6] == ("m", "rad", "rad", "rad", "rad", "m/s")
    assert found.action_units == ("200 N m",) * 3
    assert np.all([name.endswith("_velocity") for name in found.observation_names[5:]])
