"""Guided sampling: what a guide is told, and where it leads on distributions that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.diffusion import Sampler, cosine_schedule, sample, unguided

STEPS = 100
SCHEDULE = cosine_schedule(STEPS)
SAMPLER = Sampler("ancestral", STEPS, temperature=1.0)
LEVELS = jnp.asarray(np.sqrt(SCHEDULE.alphas_bar), jnp.float32)  # √ᾱ of each step


def draw(denoise, guide, count=4000, sampler=SAMPLER, shape=(1, 1), known=None, values=None):
    full = (count, *shape)
    return sample(
        denoise,
        SCHEDULE,
        sampler,
        known=jnp.zeros(full, bool) if known is None else known,
        known_values=jnp.zeros(full) if values is None else values,
        low=jnp.full(shape[-1:], -1e3),
        high=jnp.full(shape[-1:], 1e3),
        keys=jax.random.split(jax.random.key(0), count),
        guide=guide,
    )


def standard_normal(x, step):
    """ε̂ of x_0 ~ N(0, 1): E[x_0 | x] = √ᾱ x, so that ε̂ = √(1 - ᾱ) x."""
    return jnp.sqrt(1 - jnp.square(LEVELS[step]))[:, None, None] * x


def test_a_linear_value_moves_a_normal_by_its_slope():
    """exp(a x) N(x; 0, 1) is N(a, 1) up to a constant: a guide must move the mean by a."""
    slope = 0.8

    def guide(mean, step, variance):
        # J of a noisy x: log E[exp(a x_0) | x_k] = a √ᾱ_k x_k + …; behind the last, no noise.
        return mean + variance * slope * LEVELS[jnp.maximum(step, 0)][:, None, None]

    # By hand: the mean m of x_k becomes √α_k m, plus β̃_k a √ᾱ_{k-1}; β̃_0 = 0.
    expected, bars = 0.0, [1.0, *SCHEDULE.alphas_bar]
    for k in reversed(range(STEPS)):
        now, then, beta = bars[k + 1], bars[k], SCHEDULE.betas[k]
        variance = (1 - then) / (1 - now) * beta
        expected = np.sqrt(1 - beta) * expected + variance * slope * np.sqrt(then)
    x = np.asarray(draw(standard_normal, guide, count=20_000)).ravel()
    # Five standard errors of the mean of 20,000 draws of deviation 1.
    assert x.mean() == pytest.approx(expected, abs=5 / np.sqrt(20_000))
    assert expected == pytest.approx(slope, rel=0.05)  # what many small steps would give
    assert x.std() == pytest.approx(1.0, abs=0.05)


def two_modes(x, step):
    """ε̂ of x_0 that is -0.7 or 0.7 in even shares: E[x_0 | x] = 0.7 tanh(0.7 √ᾱ x / (1 - ᾱ))."""
    signal = LEVELS[step][:, None, None]
    noise = jnp.sqrt(1 - jnp.square(signal))
    mean = 0.7 * jnp.tanh(0.7 * signal * x / jnp.square(noise))
    return (x - signal * mean) / noise


def test_a_guide_takes_the_better_of_two_modes():
    def guide(mean, _step, variance):
        return mean + 8.0 * variance  # J = 8 x

    even, better = (np.asarray(draw(two_modes, one)).ravel() for one in (unguided, guide))
    for x in (even, better):
        np.testing.assert_allclose(np.abs(x), 0.7, atol=0.02)  # what is sampled is in the data
    assert 0.45 < (even > 0).mean() < 0.55
    assert (better > 0).mean() > 0.97


def test_a_guide_is_told_the_step_of_the_mean_and_the_variance_of_its_noise():
    told = []

    def guide(mean, step, variance):
        jax.debug.callback(
            lambda step, variance: told.append((int(step), float(variance))), step[0], variance
        )
        return mean

    # A temperature is no part of the model's variance.
    x = draw(standard_normal, guide, 2, Sampler("ancestral", STEPS, temperature=0.5))
    jax.effects_barrier()
    steps, variances = zip(*sorted(told, reverse=True), strict=True)
    assert list(steps) == list(range(STEPS - 2, -2, -1))
    bars = np.append(1.0, SCHEDULE.alphas_bar)
    posterior = (1 - bars[:-1]) / (1 - bars[1:]) * SCHEDULE.betas
    np.testing.assert_allclose(variances, posterior[::-1], rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(
        x, draw(standard_normal, unguided, 2, Sampler("ancestral", STEPS, temperature=0.5))
    )


def test_what_is_known_no_guide_moves():
    known = jnp.zeros((3, 4, 2), bool).at[:, 0].set(True)
    values = jnp.full((3, 4, 2), 0.25)
    x = draw(
        *(standard_normal, lambda mean, _step, _variance: mean + 7.0, 3),
        shape=(4, 2),
        known=known,
        values=values,
    )
    np.testing.assert_array_equal(x[:, 0], values[:, 0])
    assert (x[:, 1:] > 3).all()
