"""A student as a ROS 2 node: an example to start from.

    python3 experiments/deploy/ros2_node.py --ros-args -p student:=/path/to/student.npz
        [-p hz:=125] [-p most_age:=0.05]

It subscribes to `observation` (std_msgs/Float64MultiArray, raw units, in the order of the student's
contract) and publishes `action` (the same type) at the contract's control rate. Before the first
observation, and when the last one is older than `most_age` seconds, nothing is published: what the
robot does then is its driver's business, and should be to stop. An observation that is not finite
is answered with the last action for as long; those that follow it count as none. Needs rclpy and
NumPy, not JAX.
"""

import sys
import time
from typing import Any

import numpy as np
import rclpy  # pyright: ignore[reportMissingImports]
from rcl_interfaces.msg import ParameterDescriptor  # pyright: ignore[reportMissingImports]
from rclpy.node import Node  # pyright: ignore[reportMissingImports]
from std_msgs.msg import Float64MultiArray  # pyright: ignore[reportMissingImports]

from tskd_jax import PolicyError, load_policy


class StudentNode(Node):
    """Answers the newest observation at a fixed rate."""

    def __init__(self) -> None:
        super().__init__("student")
        path = self.declare_parameter("student", "student.npz").value
        self._policy = load_policy(path, on_invalid="repeat")
        contract = self._policy.contract
        known = contract.control_hz if contract else None
        hz = self._number("hz", known or 0.0)
        if hz <= 0:
            raise PolicyError(f"{path}: does not say how often it acts; set -p hz:=RATE")
        self._most_age = self._number("most_age", 5 / hz)
        self._observation, self._received = None, 0.0
        self._was_finite = False
        self._publisher = self.create_publisher(Float64MultiArray, "action", 1)
        self.create_subscription(Float64MultiArray, "observation", self.receive, 1)
        self.create_timer(1 / hz, self.act)
        names = ", ".join(contract.observation_names) if contract else ""
        self.get_logger().info(f"{path} at {hz:g} Hz; observations: {names or 'no names known'}")

    def _number(self, name: str, default: float) -> float:
        # ROS takes `hz:=50` for an integer, and refuses it where a parameter is typed as a double.
        return float(
            self.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
        )

    def receive(self, message: Any) -> None:
        """Keep an observation; one that is not finite only if the last one was."""
        observation = np.array(message.data, np.float64)
        finite = bool(np.isfinite(observation).all())
        if finite or self._was_finite:
            self._observation, self._received = observation, time.monotonic()
        self._was_finite = finite

    def act(self) -> None:
        """Publish the action for the newest observation, if it is new enough."""
        if self._observation is None or time.monotonic() - self._received > self._most_age:
            return
        try:
            action = self._policy(self._observation)
        except PolicyError as error:  # another size, or not finite before there was an action
            self.get_logger().error(str(error))
            self._observation = None
            return
        self._publisher.publish(Float64MultiArray(data=action.astype(float).tolist()))


def main() -> int:
    rclpy.init()
    try:
        rclpy.spin(StudentNode())
    except PolicyError as error:
        print(f"ros2_node: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
