"""What each of few steps must predict, where the way of many is known in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.diffusion import Sampler, cosine_schedule, sample, sample_path
from tskd_jax.teacher.plan_paths import between_levels, signals

SCHEDULE = cosine_schedule(100)


def linear_path(sampler, gain):
    """(steps + 1, 5, 1, 2) the way under x̂_0 = gain · x, and with them the sample."""
    alphas_bar = jnp.asarray(SCHEDULE.alphas_bar, jnp.float32)

    def denoise(x, step):
        a = alphas_bar[step][:, None, None]
        return (1 - gain * jnp.sqrt(a)) / jnp.sqrt(1 - a) * x

    shape = (5, 1, 2)
    arguments = {
        "known": jnp.zeros(shape, bool),
        "known_values": jnp.zeros(shape),
        "low": jnp.full(2, -99.0),
        "high": jnp.full(2, 99.0),
        "keys": jax.random.split(jax.random.key(0), 5),
    }
    path = sample_path(denoise, SCHEDULE, sampler, **arguments)
    return path, sample(denoise, SCHEDULE, sampler, **arguments)


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_the_target_of_each_step_of_a_linear_denoiser(calls):
    # x̂_0 = g x makes every DDIM step of the teacher x' = (a + b g) x, so that what one step in
    # place of several must predict is x̂_0 = (Π (a + b g) - A) / B · x, with its own A and B.
    gain, start = 0.7, 0.94
    teacher = Sampler("ddim", 10, 0.0, 1.0, start)
    few = Sampler("ddim", calls, 0.0, 1.0, start)
    path, x0 = linear_path(teacher, gain)
    np.testing.assert_array_equal(path[-1], x0)
    levels, own = teacher.step_indices(SCHEDULE), few.step_indices(SCHEDULE)
    at = [*(list(levels).index(level) for level in own), 10]  # all are levels of the teacher
    states = jnp.moveaxis(path[jnp.array(at)], 0, 1)
    a, b = teacher.coefficients(SCHEDULE)[:, :2].T
    found = signals(few, SCHEDULE, states)
    for step, (first, last) in enumerate(itertools.pairwise(at)):
        scales = SCHEDULE.scales(jnp.asarray(own[step : step + 1]))
        signal, noise = (scale.item() for scale in scales)
        following = 1.0 if last == 10 else SCHEDULE.alphas_bar[levels[last]]
        wide = np.sqrt(1 - following) / noise  # A
        reach = np.sqrt(following) - wide * signal  # B
        factor = (np.prod((a + b * gain)[first:last]) - wide) / reach
        np.testing.assert_allclose(found[:, step], factor * states[:, step], rtol=1e-4)


@pytest.mark.parametrize("kind", ["ddim", "dpm++"])
def test_states_at_the_teachers_levels_are_its_own(kind):
    few = Sampler("ddim", 4, 0.0, 1.0, 0.94)
    weights = between_levels(Sampler(kind, 10, 0.0, 1.0, 0.94), few, SCHEDULE)
    np.testing.assert_allclose(weights, np.eye(10)[[0, 3, 6, 9]], atol=1e-12)


def test_states_between_two_levels_are_on_the_straight_line():
    # All of a way to one and the same x̂_0 is √ᾱ x̂_0 + √(1 - ᾱ) ε, at every level.
    teacher, few = Sampler("ddim", 4, start=0.9), Sampler("ddim", 3, start=0.9)
    x0, noise = 0.3, -1.7

    def states(sampler):
        alphas_bar = SCHEDULE.alphas_bar[sampler.step_indices(SCHEDULE)]
        return np.sqrt(alphas_bar) * x0 + np.sqrt(1 - alphas_bar) * noise

    weights = between_levels(teacher, few, SCHEDULE)
    assert ((weights > 1e-3).sum(1) == [1, 2, 1]).all()
    np.testing.assert_allclose(weights @ states(teacher), states(few), rtol=1e-12)
