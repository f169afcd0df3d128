"""Names and units of the named environments' dimensions, for a student's contract.

Names are those of the joints in the environment's XML file; a velocity has the suffix `_velocity`,
as in Gymnasium's documentation. They are not part of a `Task`, whose fingerprint is in the keys of
stages, so they do not affect these keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tskd_jax.envs.tasks import Task


@dataclass(frozen=True)
class Dimensions:
    """Names and units by dimension, in order; empty if unknown.

    Attributes:
      observation_names, observation_units: (m,).
      action_names, action_units: (n,); a unit is the quantity that an action of 1 stands for: a
        torque in N m, by the gear of the motor.
    """

    observation_names: tuple[str, ...] = ()
    observation_units: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ()
    action_units: tuple[str, ...] = ()


def _planar(joints: Mapping[str, int]) -> Dimensions:
    """Dimensions of a planar robot: height, angle and joints, then all velocities.

    Args:
      joints: joint name -> gear of its motor, in the order of actions and observations.
    """
    places = ("rootz", "rooty", *joints)
    moving = ("rootx", *places)
    units = {"rootx": "m", "rootz": "m"}
    return Dimensions(
        (*places, *(f"{name}_velocity" for name in moving)),
        (
            *(units.get(name, "rad") for name in places),
            *(f"{units.get(name, 'rad')}/s" for name in moving),
        ),
        tuple(joints),
        tuple(f"{gear} N m" for gear in joints.values()),
    )


def _ant() -> Dimensions:
    joints = [f"{part}_{leg}" for leg in (1, 2, 3, 4) for part in ("hip", "ankle")]
    root = ("root_z", "root_qw", "root_qx", "root_qy", "root_qz")
    speeds = [f"root_v{axis}" for axis in "xyz"] + [f"root_w{axis}" for axis in "xyz"]
    bodies = ["world", "torso"]
    for leg, number in (("front_left", 1), ("front_right", 2), ("back", 3), ("right_back", 4)):
        bodies += [f"{leg}_leg", f"aux_{number}", f"{leg}_foot"]
    forces = [
        f"{body}_{kind}_{axis}" for body in bodies for kind in ("torque", "force") for axis in "xyz"
    ]
    return Dimensions(
        (*root, *joints, *speeds, *(f"{name}_velocity" for name in joints), *forces),
        ("m", *[""] * 4, *["rad"] * 8, *["m/s"] * 3, *["rad/s"] * 11)
        + (*["N m"] * 3, *["N"] * 3) * len(bodies),
        tuple(f"{part}_{leg}" for leg in (4, 1, 2, 3) for part in ("hip", "ankle")),
        ("150 N m",) * 8,
    )


def _kitchen() -> Dimensions:
    robot = [f"panda0_joint{i}" for i in range(1, 8)]
    robot += ["r_gripper_finger_joint", "l_gripper_finger_joint"]
    objects: dict[str, str] = {}
    for number, burner in enumerate(("bottom_right", "bottom_left", "top_right", "top_left"), 1):
        objects |= {f"knob_Joint_{number}": "rad", f"{burner}_burner": "m"}
    objects |= {"light_switch": "m", "light_joint": "rad", "slide_cabinet": "m"}
    objects |= dict.fromkeys(("left_hinge_cabinet", "right_hinge_cabinet", "microwave"), "rad")
    objects |= {f"kettle_{axis}": "m" for axis in "xyz"}
    objects |= {f"kettle_q{axis}": "" for axis in "wxyz"}
    places = {name: "rad" if "joint" in name and "finger" not in name else "m" for name in robot}
    places |= objects
    return Dimensions(
        (*places, *(f"goal_{name}" for name in places)),
        tuple(places.values()) * 2,
        tuple(f"{name}_velocity" for name in robot),
        ("rad/s",) * 7 + ("m/s",) * 2,
    )


_LEGS = ("thigh_joint", "leg_joint", "foot_joint", "thigh_left_joint", "leg_left_joint")
_CHEETAH = {"bthigh": 120, "bshin": 90, "bfoot": 60, "fthigh": 120, "fshin": 60, "ffoot": 30}
DIMENSIONS: Mapping[str, Dimensions] = MappingProxyType(
    {
        "hopper": _planar(dict.fromkeys(("thigh_joint", "leg_joint", "foot_joint"), 200)),
        "halfcheetah": _planar(_CHEETAH),
        "walker2d": _planar(dict.fromkeys((*_LEGS, "foot_left_joint"), 100)),
        "ant": _ant(),
        "kitchen_partial": _kitchen(),
        "kitchen_mixed": _kitchen(),
    }
)


def dimensions(task: Task, recorded: Mapping[str, tuple[str, ...]]) -> Dimensions:
    """Names and units of a task's dimensions.

    Args:
      task: a named task or any other.
      recorded: "observations" and "actions" -> the names of the dataset's columns, if it has any.
        They are used if the task is not a named one.
    """
    if task.name in DIMENSIONS:
        return DIMENSIONS[task.name]
    names = [recorded.get(role, ()) for role in ("observations", "actions")]
    sizes = (task.state_size, task.action_size)
    observations, actions = (
        tuple(one) if len(one) == size else () for one, size in zip(names, sizes, strict=True)
    )
    return Dimensions(observation_names=observations, action_names=actions)
