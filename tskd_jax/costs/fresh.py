"""Untrained models of a config's size, and data to run them on."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from tskd_jax.config import Config
from tskd_jax.data.load import load_dataset
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.tasks import Task
from tskd_jax.machine import devices
from tskd_jax.models import baseline, decision_transformer, inverse_dynamics, world
from tskd_jax.models.baseline import Baseline
from tskd_jax.models.cloning import input_scale
from tskd_jax.models.decision_transformer import DecisionTransformer
from tskd_jax.models.inverse_dynamics import InverseDynamics
from tskd_jax.models.world import World
from tskd_jax.policy import Bounds, Policy
from tskd_jax.teacher import diffuser, reward_generator, trajectory_generator
from tskd_jax.teacher.diffuser import Diffuser
from tskd_jax.training import seeds


def some_episodes() -> Trajectories:
    """A twentieth of the embedded data, which gives untrained models their scales and starts."""
    return load_dataset("hopper-sac-replay").select(np.arange(0, 600, 20))


def stand_in(task: Task, transitions: int) -> Trajectories:
    """Make a dataset of noise for a task; episodes reach the limit, except perhaps the last one."""
    rng, limit = np.random.default_rng(0), task.episode_limit
    whole, rest = divmod(transitions, limit)
    lengths = [limit] * whole + [rest] * (rest > 0)
    states = rng.normal(size=(2, transitions, task.state_size)).astype(np.float32)
    return from_columns(
        observations=states[0],
        actions=rng.uniform(task.bounds.low, task.bounds.high, (transitions, task.action_size)),
        rewards=rng.uniform(size=transitions),
        next_observations=states[1],
        terminals=np.zeros(transitions, bool),
        lengths=np.array(lengths),
    )


def random_student(sizes: tuple[int, ...], bounds: Bounds) -> Policy:
    """Make a student with random weights; its speed depends only on how many activations are 0.

    Args:
      sizes: widths of the observations, of each hidden layer, and of the actions.
      bounds: bounds of the actions.
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


def filled(tree: Any, spec: PartitionSpec, onto: Mesh) -> Any:
    """As `devices.place`, but fill leaves that are only shapes, or a single number, with noise."""
    rng = np.random.default_rng(0)

    def of_leaf(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            if not (isinstance(leaf, np.ndarray) and leaf.size > 1 and not any(leaf.strides)):
                return leaf
        elif jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.split(jax.random.key(0), leaf.shape)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return np.zeros(leaf.shape, leaf.dtype)
        return (0.05 * rng.standard_normal(leaf.shape, np.float32)).astype(leaf.dtype)

    return devices.place(jax.tree.map(of_leaf, tree), spec, onto)


def _of_members(init: Callable[[jax.Array], Any], members: int, keys: jax.Array) -> Any:
    """Fresh parameters (S, members, …), computed by one program."""
    of_seed = jax.vmap(lambda key: jax.vmap(init)(jax.random.split(key, members)))
    return jax.device_get(jax.jit(of_seed)(keys))


def fresh_baseline(
    config: baseline.Config, recorded: Trajectories, discount: float, keys: jax.Array
) -> Baseline:
    """The baseline with fresh parameters; seeds, one per key, are the leading axis."""
    model = baseline.create(config, recorded, discount)
    return seeds.for_seeds(model, len(keys)).replace(params=_of_members(model.init, 2, keys))


def fresh_inverse_dynamics(
    config: Config, recorded: Trajectories, task: Task, keys: jax.Array
) -> InverseDynamics:
    """The inverse dynamics f with fresh parameters; seeds, one per key, are the leading axis."""
    model = inverse_dynamics.create(config.inverse_dynamics, recorded, task)
    params = jax.device_get(jax.jit(jax.vmap(model.init))(keys))
    return seeds.for_seeds(model, len(keys)).replace(params=params)


def fresh_world(config: Config, recorded: Trajectories, keys: jax.Array) -> World:
    """The learned world with fresh parameters; seeds, one per key, are the leading axis."""
    model = world.create(config.world, recorded)
    params = _of_members(model.init, config.world.members, keys)
    return seeds.for_seeds(model, len(keys)).replace(params=params)


def needed_baseline(config: Config, recorded: Trajectories, keys: jax.Array) -> Baseline | None:
    """The baseline that DDR-I needs, with fresh parameters; None if it needs none."""
    generator = config.trajectory_generator
    if not trajectory_generator.needs_baseline(generator):
        return None
    return fresh_baseline(config.baseline, recorded, generator.discount, keys)


def fresh_trajectory_generator(config: Config, recorded: Trajectories, keys: jax.Array) -> Diffuser:
    """DDR-I with fresh parameters; seeds, one per key, are the leading axis."""
    generator, expected = config.trajectory_generator, needed_baseline(config, recorded, keys)
    labels = trajectory_generator.conditions(generator, recorded, expected, len(keys))
    model = trajectory_generator.create(generator, recorded, expected, labels)
    return diffuser.with_fresh_params(model, keys)


def fresh_decision_transformer(
    config: Config, recorded: Trajectories, task: Task, key: jax.Array
) -> DecisionTransformer:
    """A Decision Transformer with fresh parameters, for one seed."""
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
    """DDR-II with fresh parameters; seeds, one per key, are the leading axis."""
    section = config.reward_generator
    labels = reward_generator.conditions(section, recorded, len(keys))
    return diffuser.with_fresh_params(reward_generator.create(section, recorded, labels), keys)
