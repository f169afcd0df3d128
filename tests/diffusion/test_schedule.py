"""The noise schedule against its closed form and known numbers."""

import math

import numpy as np
import pytest

from tskd_jax.diffusion import cosine_schedule


def test_golden_numbers_of_the_papers_schedule():
    schedule = cosine_schedule(200)
    assert schedule.steps == 200
    last = schedule.alphas_bar[-1]
    assert math.sqrt(last) == pytest.approx(2.46e-4, rel=3e-3)
    np.testing.assert_allclose(schedule.betas[-3:], [0.5555, 0.7500, 0.999], atol=6e-5)
    # An error in the noise is divided by √ᾱ and multiplied by √(1 - ᾱ): 1 / 2.464e-4 = 4058.
    assert math.sqrt((1 - last) / last) == pytest.approx(4058, abs=1)


@pytest.mark.parametrize("steps", [10, 100, 200, 1000])
def test_signal_follows_the_cosine_where_betas_are_not_clipped(steps):
    schedule = cosine_schedule(steps)

    def signal(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    for k in range(steps - 1):  # only the last beta, 1 - 0/…, is clipped
        expected = signal((k + 1) / steps) / signal(0)
        assert schedule.alphas_bar[k] == pytest.approx(expected, rel=1e-9)
    assert schedule.betas[-1] == 0.999


@pytest.mark.parametrize("steps", [2, 10, 200])
def test_betas_are_variances_and_noise_only_grows(steps):
    schedule = cosine_schedule(steps)
    assert schedule.betas.dtype == schedule.alphas_bar.dtype == np.float64
    assert (schedule.betas > 0).all()
    assert (schedule.betas <= 0.999).all()
    assert (np.diff(schedule.alphas_bar) < 0).all()
    # q(x_k | x_0) by its definition, one step of noise after the other.
    signal, variance = 1.0, 0.0
    for k, beta in enumerate(schedule.betas):
        signal *= math.sqrt(1 - beta)
        variance = (1 - beta) * variance + beta
        assert signal**2 == pytest.approx(schedule.alphas_bar[k], rel=1e-9)
        assert variance == pytest.approx(1 - schedule.alphas_bar[k], rel=1e-9)


def test_offset_and_clip_are_arguments():
    # Without an offset the first beta is 1 - cos²(π/20) = sin²(π/20) = 0.02447.
    assert cosine_schedule(10, offset=0.0).betas[0] == pytest.approx(0.02447, abs=1e-5)
    assert cosine_schedule(10, largest_beta=0.5).betas.max() == 0.5
