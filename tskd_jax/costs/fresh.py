"""Models as large as a config's, of which nothing is trained."""

import itertools

import jax
import numpy as np

from tskd_jax.config import Config
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.models import baseline, decision_transformer, inverse_dynamics
from tskd_jax.models.baseline import Baseline
from tskd_jax.models.cloning import input_scale
from tskd_jax.models.decision_transformer import DecisionTransformer
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.policy import Bounds, Policy
from tskd_jax.teacher import diffuser, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds


def some_episodes() -> Trajectories:
    """A twentieth of the embedded data: what is not trained takes scales and starts from it."""
    return load_dataset("hopper-sac-replay").select(np.arange(0, 600, 20))


def random_student(sizes: tuple[int, ...], bounds: Bounds) -> Policy:
    """A student of random weights: time depends on them only by how many activations are 0.

    Args:
      sizes: of the observations, of each hidden layer, of the actions.
      bounds: of the actions.
    """
    rng = np.random.default_rng(0)
    return Policy(
        tuple(
            (rng.normal(size=pair) * np.sqrt(2 / pair[0])).astype(np.float32)
            for pair in itertools.pairwise(sizes)
        ),
        tuple(np.zeros(size, np.float32) for size in sizes[1:]),
        bounds,
    )


def fresh_baseline(
    config: baseline.Config, recorded: Trajectories, discount: float, keys: jax.Array
) -> Baseline:
    """The baseline with fresh parameters and the seeds, one for each key, as leading axis."""
    model = baseline.create(config, recorded, discount)
    both = jax.vmap(lambda key: jax.vmap(model.init)(jax.random.split(key, 2)))(keys)
    return seeds.for_seeds(model, len(keys)).replace(params=jax.device_get(both))


def fresh_inverse_dynamics(
    config: Config, recorded: Trajectories, task: Task, keys: jax.Array
) -> InverseDynamics:
    """f with fresh parameters and the seeds, one for each key, as leading axis."""
    model = inverse_dynamics.create(config.inverse_dynamics, recorded, task)
    params = jax.device_get(jax.vmap(model.init)(keys))
    return seeds.for_seeds(model, len(keys)).replace(params=params)


def needed_baseline(config: Config, recorded: Trajectories, keys: jax.Array) -> Baseline | None:
    """The baseline that DDR-I is made of, with fresh parameters, where it is made of one."""
    generator = config.trajectory_generator
    if not trajectory_generator.needs_baseline(generator):
        return None
    return fresh_baseline(config.baseline, recorded, generator.discount, keys)


def fresh_trajectory_generator(config: Config, recorded: Trajectories, keys: jax.Array) -> Diffuser:
    """DDR-I with fresh parameters and the seeds, one for each key, as leading axis."""
    generator, expected = config.trajectory_generator, needed_baseline(config, recorded, keys)
    labels = trajectory_generator.conditions(generator, recorded, expected, len(keys))
    model = trajectory_generator.create(generator, recorded, expected, labels)
    return diffuser.with_fresh_params(model, keys)


def fresh_decision_transformer(
    config: Config, recorded: Trajectories, task: Task, key: jax.Array
) -> DecisionTransformer:
    """A Decision Transformer with fresh parameters, of one seed."""
    section = config.own["decision_transformer"]
    model = decision_transformer.training(section, recorded, task, (0,))
    mean, deviation = input_scale(recorded, True)
    return DecisionTransformer(
        params=jax.device_get(model.init(key)),
        mean=mean,
        deviation=deviation,
        target=np.float32(decision_transformer.target_return(section, recorded)),
        config=section,
        bounds=task.bounds,
        times=task.episode_limit,
    )


def fresh_reward_generator(config: Config, recorded: Trajectories, keys: jax.Array) -> Diffuser:
    """DDR-II with fresh parameters and the seeds, one for each key, as leading axis."""
    section = config.reward_generator
    labels = reward_generator.conditions(section, recorded, len(keys))
    return diffuser.with_fresh_params(reward_generator.create(section, recorded, labels), keys)
