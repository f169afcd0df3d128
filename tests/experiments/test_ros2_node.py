"""The ROS 2 example, with a ROS that only remembers what it is told."""

import importlib
import sys
import types

import numpy as np
import pytest

from tskd_jax.contract import Contract
from tskd_jax.errors import PolicyError
from tskd_jax.policy import Bounds, Policy, save_policy

POLICY = Policy(
    (np.eye(2, dtype=np.float32),), (np.zeros(2, np.float32),), Bounds.symmetric(1.0, 2)
)
CONTRACT = Contract(2, 2, (-1, -1), (1, 1), observation_names=("x", "v"), control_hz=50.0)


class Message:
    def __init__(self, data):
        self.data = data


class FakeNode:
    """Publishes into lists."""

    parameters: dict

    def __init__(self, name):
        self.name, self.published, self.lines, self.timers = name, [], [], []

    def declare_parameter(self, name, default, descriptor=None):
        value = self.parameters.get(name, default)
        if type(value) is not type(default) and not (descriptor and descriptor.dynamic_typing):
            raise TypeError(f"{name}: wrong parameter type")  # as rclpy does
        return types.SimpleNamespace(value=value)

    def create_publisher(self, kind, topic, depth):
        return types.SimpleNamespace(publish=lambda message: self.published.append(message.data))

    def create_subscription(self, kind, topic, callback, depth):
        pass

    def create_timer(self, seconds, callback):
        self.timers.append(seconds)

    def get_logger(self):
        return types.SimpleNamespace(info=self.lines.append, error=self.lines.append)


@pytest.fixture
def module(monkeypatch):
    messages = types.SimpleNamespace(Float64MultiArray=lambda data: Message(data))
    descriptor = types.SimpleNamespace(ParameterDescriptor=types.SimpleNamespace)
    for name, content in {
        "rcl_interfaces": types.SimpleNamespace(),
        "rcl_interfaces.msg": descriptor,
        "rclpy": types.SimpleNamespace(),
        "rclpy.node": types.SimpleNamespace(Node=FakeNode),
        "std_msgs": types.SimpleNamespace(),
        "std_msgs.msg": messages,
    }.items():
        monkeypatch.setitem(sys.modules, name, content)
    sys.modules.pop("experiments.deploy.ros2_node", None)
    yield importlib.import_module("experiments.deploy.ros2_node")
    sys.modules.pop("experiments.deploy.ros2_node", None)


@pytest.fixture
def clock(module, monkeypatch):
    now = types.SimpleNamespace(time=0.0)
    monkeypatch.setattr(module.time, "monotonic", lambda: now.time)
    return now


def start(module, tmp_path, contract=CONTRACT, **parameters):
    save_policy(tmp_path / "student.npz", POLICY, contract)
    FakeNode.parameters = {"student": str(tmp_path / "student.npz"), **parameters}
    return module.StudentNode()


def test_it_answers_at_the_rate_of_the_contract(module, clock, tmp_path):
    node = start(module, tmp_path)
    assert node.timers == [1 / 50]
    assert "x, v" in node.lines[0]
    node.act()
    assert node.published == []  # nothing is known yet
    node.receive(Message([0.5, -2.0]))
    node.act()
    np.testing.assert_allclose(node.published, [np.tanh([0.5, -2.0])], rtol=1e-6)


def test_an_old_observation_is_not_answered(module, clock, tmp_path):
    node = start(module, tmp_path, most_age=0.1)
    node.receive(Message([0.5, 0.5]))
    clock.time = 0.2
    node.act()
    assert node.published == []


def test_a_sensor_that_fails(module, clock, tmp_path):
    node = start(module, tmp_path, most_age=0.1)
    node.receive(Message([np.nan, 0.5]))
    node.act()
    assert node.published == []  # not finite before there was an action
    node.receive(Message([0.5, 0.5]))
    node.act()
    for clock.time in (0.05, 0.09, 0.12, 0.2):
        node.receive(Message([np.nan, 0.5]))
        node.act()
    # Answered as long as the first bad one is new, and then no more.
    assert len(node.published) == 4
    np.testing.assert_array_equal(node.published[3], node.published[0])


def test_a_wrong_size_is_logged(module, clock, tmp_path):
    node = start(module, tmp_path)
    node.receive(Message([0.5, 0.5, 0.5]))
    node.act()
    assert node.published == []
    assert "(x, v)" in node.lines[-1]


def test_without_a_rate_it_is_asked_for(module, tmp_path):
    with pytest.raises(PolicyError, match="set -p hz:=RATE"):
        start(module, tmp_path, contract=None)
    assert start(module, tmp_path, contract=None, hz=10).timers == [0.1]
