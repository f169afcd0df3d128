"""The models that imagine, stitch and judge, each trained on recorded transitions only."""

from dataclasses import replace

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.methods.base import Experiment, Teacher
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.models import baseline, dynamics, inverse_dynamics
from tskd_jax.models import world as forward
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.world import World
from tskd_jax.teacher import few_steps, pool, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser


def train_teachers(exp: Experiment) -> list[Teacher]:
    """What imagines, of recorded transitions only (an input of Algorithm 4)."""
    inverse = train_inverse_dynamics(exp)
    world = train_world(exp) if exp.config.imagination.world != "none" else None
    return [
        Teacher(train_planner(exp, index), inverse, world)
        for index in range(exp.config.teachers.count)
    ]


def use_of_teacher(index: int) -> str:
    """The randomness of a teacher: the first one's has the name of what is done with it alone."""
    return f".{index + 1}" if index else ""


def train_world(exp: Experiment) -> World:
    """T(s, a) of recorded transitions, in which is imagined and policies are judged."""
    return exp.stage(forward.train, exp.config.world, exp.recorded)


def train_pricing(exp: Experiment) -> DiffusionPricing:
    """What stitches, of recorded transitions only (an input of Algorithm 4)."""
    config = exp.config
    inverse, ensemble = train_inverse_dynamics(exp), train_ensemble(exp)
    ddr2 = exp.stage(
        reward_generator.train, config.reward_generator, config.reward_sampling, exp.recorded
    )
    return DiffusionPricing(ensemble, inverse, ddr2, config.reward_sampling)


def train_planner(exp: Experiment, index: int = 0) -> Diffuser:
    """What a teacher plans with, as `config.teacher_sampling` has it: DDR-I, or a fast copy."""
    ddr1, config, use = train_trajectory_generator(exp, index), exp.config, use_of_teacher(index)
    if not config.few_steps.calls:
        return ddr1
    # How much of a plan is taken is no part of what the plan is.
    sampling = replace(config.teachers.sampling(config.sampling, index), replan_every=1)
    return exp.stage(
        *(few_steps.train, config.few_steps, sampling, ddr1, exp.recorded),
        name=f"few_steps{use}",
        use=use,
    )


def train_trajectory_generator(exp: Experiment, index: int = 0) -> Diffuser:
    """A teacher's DDR-I, and before it the baseline where its config asks for one."""
    config, expected = exp.config.trajectory_generator, None
    if trajectory_generator.needs_baseline(config):
        expected = exp.stage(baseline.train, exp.config.baseline, exp.recorded, config.discount)
    data: Trajectories = exp.recorded
    if index and exp.config.teachers.bootstrap:
        data = pool.draw_episodes(exp.recorded, exp.seeds[0], index)
    kept: np.ndarray | None = exp.kept(data) if config.kept_fraction else None
    use = use_of_teacher(index)
    return exp.stage(
        *(trajectory_generator.train, config, data, expected, kept),
        name=f"trajectory_generator{use}",
        use=use,
    )


def train_ensemble(exp: Experiment) -> DynamicsEnsemble:
    return exp.stage(dynamics.train, exp.config.dynamics, exp.recorded)


def train_inverse_dynamics(exp: Experiment) -> inverse_dynamics.InverseDynamics:
    """f(s, s') of recorded transitions."""
    return exp.stage(inverse_dynamics.train, exp.config.inverse_dynamics, exp.recorded, exp.task)
