"""The models that imagine, stitch and judge, each trained on recorded transitions only."""

from dataclasses import replace

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.methods.base import Experiment
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.models import baseline, dynamics, inverse_dynamics
from tskd_jax.models import world as forward
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.world import World
from tskd_jax.teacher import few_steps, pool, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser, penalized


def use_of_teacher(index: int) -> str:
    """The `use` of a teacher's stages, for their random keys; the first teacher adds no suffix."""
    return f".{index + 1}" if index else ""


def train_world(exp: Experiment) -> World:
    """Train T(s, a), in which policies and teachers are judged."""
    return exp.stage(forward.train, replace(exp.config.world, noise=0.0), exp.recorded)


def train_imagination_world(exp: Experiment, steps: int) -> World | None:
    """Train T(s, a), in which teachers imagine so many steps in a row, if they need a world.

    It is the world that judges, or with `config.world.noise` one of its own. In a single step no
    error can add up.
    """
    config = exp.config
    if config.imagination.world == "none":
        return None
    if not config.world.noise or steps == 1:
        return train_world(exp)
    name = "imagination_world"
    return exp.stage(forward.train, config.world, exp.recorded, name=name, use=f".{name}")


def train_pricing(exp: Experiment) -> DiffusionPricing:
    """Train the models that stitch (an input of Algorithm 4)."""
    config = exp.config
    inverse, ensemble = train_inverse_dynamics(exp), train_ensemble(exp)
    ddr2 = exp.stage(
        reward_generator.train, config.reward_generator, config.reward_sampling, exp.recorded
    )
    return DiffusionPricing(ensemble, inverse, ddr2, config.reward_sampling)


def train_planner(exp: Experiment, index: int = 0) -> Diffuser:
    """Train what a teacher plans with: DDR-I, or with `config.few_steps` its fast copy."""
    ddr1, config, use = train_trajectory_generator(exp, index), exp.config, use_of_teacher(index)
    if not config.few_steps.calls:
        return ddr1
    # A plan does not depend on how many of its steps are executed.
    sampling = replace(config.teachers.sampling(config.sampling, index), replan_every=1)
    return exp.stage(
        *(few_steps.train, config.few_steps, sampling, ddr1, exp.recorded),
        name=f"few_steps{use}",
        use=use,
    )


def train_trajectory_generator(exp: Experiment, index: int = 0) -> Diffuser:
    """Train a teacher's DDR-I, and before it the baseline if its config needs one."""
    config, expected = exp.config.trajectory_generator, None
    if trajectory_generator.needs_baseline(config):
        valued = exp.recorded
        if config.condition == "advantage" and config.termination_penalty:
            # An advantage is over what was to be expected, the penalty included.
            valued = penalized(config, valued)
        expected = exp.stage(baseline.train, exp.config.baseline, valued, config.discount)
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
    """Train f(s, s')."""
    return exp.stage(inverse_dynamics.train, exp.config.inverse_dynamics, exp.recorded, exp.task)
