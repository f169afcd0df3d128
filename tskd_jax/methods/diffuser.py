"""Diffuser (Janner et al. 2022): samples states and actions, guided by a value's gradient.

    dataset ─► diffuser over states and actions ┐
            ─► J, the value of a noisy plan     ┴► plans ─► first action of the best, at each step

It has no student.
"""

from tskd_jax.fields import restrict
from tskd_jax.methods.base import Experiment, Method, Outcome, stage_keys
from tskd_jax.teacher import joint_config, joint_diffuser, value_guide
from tskd_jax.teacher.guided_planner import GuidedActor
from tskd_jax.teacher.joint_config import ModelConfig, PlanningConfig, WindowConfig
from tskd_jax.training import seeds


def train(exp: Experiment, own: joint_config.Config) -> Outcome:
    """Train one planner for each of `config.seeds`, each with its own networks."""
    each, recorded = exp.for_each_seed(), exp.recorded
    value = each.stage(
        value_guide.train, exp.config.value_guide, restrict(own, WindowConfig), recorded
    )
    model = each.stage(
        joint_diffuser.train, restrict(own, ModelConfig), recorded, name=f"student.{exp.name}"
    )
    keys = stage_keys("planning", exp.config.seeds)
    actors = [
        GuidedActor(
            seeds.of_seed(model, index),
            seeds.of_seed(value, index),
            key,
            exp.task.bounds,
            restrict(own, PlanningConfig),
        )
        for index, key in enumerate(keys)
    ]
    return Outcome(actors, [recorded])


METHOD = Method(
    "Diffuser",
    "plans states and actions by a diffuser that climbs a value, at every step in the simulator",
    train,
    joint_config.Config,
    needs_simulator=True,
    contradictions=joint_config.contradictions,
)
