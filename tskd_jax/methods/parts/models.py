"""The models that imagine, stitch and judge, each trained on recorded transitions only."""

from tskd_jax.methods.base import Experiment, Teacher
from tskd_jax.methods.parts.pricing import DiffusionPricing
from tskd_jax.models import baseline, dynamics, inverse_dynamics
from tskd_jax.models import world as forward
from tskd_jax.models.dynamics import DynamicsEnsemble
from tskd_jax.models.world import World
from tskd_jax.teacher import reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser


def train_teacher(exp: Experiment) -> Teacher:
    """What imagines, of recorded transitions only (an input of Algorithm 4)."""
    inverse = train_inverse_dynamics(exp)
    world = train_world(exp) if exp.config.imagination.world != "none" else None
    return Teacher(train_trajectory_generator(exp), inverse, world)


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


def train_trajectory_generator(exp: Experiment) -> Diffuser:
    """DDR-I, and before it the baseline where its config asks for one."""
    config, expected = exp.config.trajectory_generator, None
    if trajectory_generator.needs_baseline(config):
        expected = exp.stage(baseline.train, exp.config.baseline, exp.recorded, config.discount)
    kept = exp.kept if config.kept_fraction else None
    return exp.stage(trajectory_generator.train, config, exp.recorded, expected, kept)


def train_ensemble(exp: Experiment) -> DynamicsEnsemble:
    return exp.stage(dynamics.train, exp.config.dynamics, exp.recorded)


def train_inverse_dynamics(exp: Experiment) -> inverse_dynamics.InverseDynamics:
    """f(s, s') of recorded transitions."""
    return exp.stage(inverse_dynamics.train, exp.config.inverse_dynamics, exp.recorded, exp.task)
