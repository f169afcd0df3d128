"""A teacher that has learnt a little, and imagination by it."""

import dataclasses

import jax
import numpy as np
import pytest

from tskd_jax.models import inverse_dynamics
from tskd_jax.teacher.imagination import imagine
from tskd_jax.training import seeds
from tskd_jax.training.callbacks import TrainingCallbacks

LIMIT = 7


def _alive(observations):
    return observations[..., 2] < 0.75


@pytest.fixture(scope="module")
def task(tiny_task):
    """Ends where the last number of the state is above 0.75, or after 7 steps."""
    return dataclasses.replace(tiny_task, episode_limit=LIMIT, alive=_alive)


@pytest.fixture(scope="module")
def teacher(tiny_config, tiny_trajectories, tiny_generators, task):
    """A teacher that has learnt a little, of one seed; its inverse dynamics nothing."""
    config = dataclasses.replace(tiny_config.inverse_dynamics, hidden=(8,))
    inverse = inverse_dynamics.create(config, tiny_trajectories, task)
    inverse = inverse.replace(params=jax.jit(inverse.init)(jax.random.key(0)))
    return tiny_generators[0], seeds.for_seeds(inverse, 1)


@pytest.fixture(scope="module")
def starts():
    # Deliberately off every grid: the way through the normaliser and back would change them.
    return np.random.default_rng(5).uniform(-0.5, 0.5, (20, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def run(teacher, tiny_config, task, starts):
    """imagine() with everything at hand; keyword arguments replace."""

    def run(
        *,
        task=task,
        starts=starts,
        replan_every=1,
        warm_start=0.0,
        chunk=512,
        max_steps=None,
        world=None,
        random_member=False,
        action_noise=0.0,
        **callbacks,
    ):
        model, inverse = teacher
        sampling = dataclasses.replace(
            tiny_config.sampling,
            replan_every=replan_every,
            warm_start=warm_start,
            start=0.8,  # so little training needs no clipping at the first step
        )
        (imagined,) = imagine(
            *(model, sampling, task, inverse, starts[None], jax.random.key(0)[None]),
            max_steps=max_steps,
            chunk=chunk,
            world=world,
            random_member=random_member,
            action_noise=action_noise,
            callbacks=TrainingCallbacks(**callbacks),
        )
        return imagined

    return run
