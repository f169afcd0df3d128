"""Samplers: exact on a Gaussian, their coefficients by the papers' formulas, known values kept.

Over 300 lines: each sampler's formula is written out anew, to be compared with.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.diffusion import (
    Sampler,
    cosine_schedule,
    diffusion_loss,
    guided,
    sample,
)
from tskd_jax.nn.unet import TemporalUNet
from tskd_jax.training.loop import fit
from tskd_jax.training.seeds import of_seed
from tskd_jax.training.training import Training, adam

SCHEDULE = cosine_schedule(200)
EVERY_KIND = [
    Sampler("ancestral", 20, temperature=1.0),
    Sampler("ddim", 20, eta=1.0, temperature=1.0),
    Sampler("ddim", 20, eta=0.0, temperature=1.0),
    Sampler("dpm++", 20, temperature=1.0),
]
every_kind = pytest.mark.parametrize("sampler", EVERY_KIND, ids=lambda s: f"{s.kind}-{s.eta}")


def draw(
    denoise,
    sampler,
    keys,
    shape,
    *,
    known=None,
    values=None,
    limit=1e3,
    schedule=SCHEDULE,
    earlier=None,
):
    """sample() with nothing known and a wide range by default."""
    full = (len(keys), *shape)
    dim = shape[-1]
    return sample(
        denoise,
        schedule,
        sampler,
        known=jnp.zeros(full, bool) if known is None else known,
        known_values=jnp.zeros(full) if values is None else values,
        low=jnp.full(dim, -float(limit)),
        high=jnp.full(dim, float(limit)),
        keys=keys,
        earlier=earlier,
    )


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


# --- A Gaussian over 3 times and 2 dimensions, whose best denoiser is known ---------------------

MEAN = np.array([0.5, -0.2, 0.3, 0.0, -0.4, 0.6])
_ROOT = np.random.default_rng(3).normal(size=(6, 6)) / 4
COVARIANCE = _ROOT @ _ROOT.T + 0.05 * np.eye(6)


def posterior_of(alpha_bar):
    """E[x_0 | x_k] = A x + b for x_k = √ᾱ x_0 + √(1 - ᾱ) ε, by conditioning the joint Gaussian."""
    marginal = alpha_bar * COVARIANCE + (1 - alpha_bar) * np.eye(6)
    a = np.sqrt(alpha_bar) * COVARIANCE @ np.linalg.inv(marginal)
    return a, MEAN - np.sqrt(alpha_bar) * a @ MEAN


def gaussian_denoiser(schedule):
    """ε̂ = (x - √ᾱ E[x_0 | x]) / √(1 - ᾱ)."""
    rows = []
    for alpha_bar in schedule.alphas_bar:
        a, b = posterior_of(alpha_bar)
        scale = np.sqrt(1 - alpha_bar)
        slope = (np.eye(6) - np.sqrt(alpha_bar) * a) / scale
        rows.append((slope, -np.sqrt(alpha_bar) * b / scale))
    slopes, shifts = (jnp.asarray(np.stack(c), jnp.float32) for c in zip(*rows, strict=True))

    def denoise(x, step):
        flat = x.reshape(len(x), 6)
        return (jnp.einsum("bij,bj->bi", slopes[step], flat) + shifts[step]).reshape(x.shape)

    return denoise


def published_recursion(sampler, schedule):
    """Rows (on x, on x̂_0, on the x̂_0 before, deviation of the noise), from the papers' formulas."""
    indices = np.linspace(schedule.steps - 1, 0, sampler.steps).round().astype(int)
    now = schedule.alphas_bar[indices]
    then = [*now[1:], 1.0]
    rows = []
    for i, (a, b) in enumerate(zip(now, then, strict=True)):  # ᾱ of this point, of the next
        if sampler.kind == "ancestral":
            # Ho et al. 2020, equations 6 and 7, with β = 1 - ᾱ/ᾱ' of the step taken.
            beta = 1 - a / b
            variance = (1 - b) / (1 - a) * beta
            rows.append(
                (np.sqrt(1 - beta) * (1 - b) / (1 - a), np.sqrt(b) * beta / (1 - a), 0, variance)
            )
        elif sampler.kind == "ddim":
            # Song et al. 2021, equations 12 and 16, where ε = (x - √ᾱ x̂_0) / √(1 - ᾱ).
            variance = sampler.eta**2 * (1 - b) / (1 - a) * (1 - a / b)
            direction = np.sqrt(max(1 - b - variance, 0)) / np.sqrt(1 - a)
            rows.append((direction, np.sqrt(b) - direction * np.sqrt(a), 0, variance))
        else:
            # Lu et al. 2022, algorithm 2; α = √ᾱ, σ = √(1 - ᾱ), λ = log(α/σ), h its growth. First
            # order at the first step and, as σ becomes 0 and h infinite, at the last: x = x̂_0.
            if b == 1.0:
                rows.append((0, 1, 0, 0))
                continue
            h = np.log(b / (1 - b)) / 2 - np.log(a / (1 - a)) / 2
            full = -np.sqrt(b) * (np.exp(-h) - 1)
            second = 0.0
            if i > 0:
                before = now[i - 1]
                ratio = (np.log(a / (1 - a)) / 2 - np.log(before / (1 - before)) / 2) / h
                second = 1 / (2 * ratio)
            rows.append((np.sqrt((1 - b) / (1 - a)), full * (1 + second), -full * second, 0))
    rows = np.array(rows, float)
    rows[:, 3] = np.sqrt(rows[:, 3])
    return indices, rows


def exact_result(sampler, schedule):
    """Mean and covariance that the sampler has with the best denoiser, exactly (float64).

    x and the x̂_0 before it are jointly Gaussian, and each step maps them linearly.
    """
    indices, rows = published_recursion(sampler, schedule)
    mean, covariance = np.zeros(12), np.zeros((12, 12))
    covariance[:6, :6] = np.eye(6)
    for index, (on_x, on_x0, on_before, deviation) in zip(indices, rows, strict=True):
        a, b = posterior_of(schedule.alphas_bar[index])
        step = np.block([[on_x * np.eye(6) + on_x0 * a, on_before * np.eye(6)], [a, 0 * a]])
        mean = step @ mean + np.concatenate([on_x0 * b, b])
        covariance = step @ covariance @ step.T
        covariance[:6, :6] += deviation**2 * np.eye(6)
    return mean[:6], covariance[:6, :6]


@pytest.mark.parametrize(
    ("sampler", "discretisation"),
    [
        # The last number is what `exact_result` leaves, in units of the Gaussian's own deviations:
        # 0.039, 0.039, 0.064 and 0.130. The Gaussian itself is what is compared with below.
        (Sampler("ancestral", 200, temperature=1.0), 0.05),
        (Sampler("ddim", 200, eta=1.0, temperature=1.0), 0.05),
        (Sampler("ddim", 50, eta=0.0, temperature=1.0), 0.08),
        (Sampler("dpm++", 20, temperature=1.0), 0.15),
    ],
    ids=["ancestral", "ddim-1", "ddim-0", "dpm++"],
)
def test_gaussian_is_sampled(sampler, discretisation):
    count = 10_000
    x = draw(gaussian_denoiser(SCHEDULE), sampler, keys_of(count), (3, 2))
    x = np.asarray(x, np.float64).reshape(count, 6)
    mean, covariance = exact_result(sampler, SCHEDULE)
    # Monte Carlo: a mean is off by √(C_ii / n), a covariance by √((C_ii C_jj + C_ij²) / n).
    spread = np.diag(covariance)
    mean_error = np.sqrt(spread / count)
    covariance_error = np.sqrt((np.outer(spread, spread) + covariance**2) / count)
    assert (np.abs(x.mean(0) - mean) < 5 * mean_error + 1e-4).all()
    assert (np.abs(np.cov(x.T) - covariance) < 5 * covariance_error + 1e-4).all()
    # What remains is discretisation, which the recursion knows without sampling.
    deviations = np.sqrt(np.diag(COVARIANCE))
    error = np.abs(covariance - COVARIANCE) / np.outer(deviations, deviations)
    assert (np.abs(mean - MEAN) < 0.02 * deviations).all()
    assert error.max() < discretisation


@every_kind
def test_warm_start_from_a_draw_is_a_draw(sampler):
    # x_0 of the Gaussian, noised to 0.4 K and sampled from there, is of the Gaussian again.
    count = 20_000
    many = dataclasses.replace(sampler, steps=SCHEDULE.steps)
    warm = many.warm(0.4)
    assert (warm.steps, warm.kind, warm.eta) == (80, sampler.kind, sampler.eta)
    assert warm.step_indices(SCHEDULE)[0] == round(0.4 * 199)
    rng = np.random.default_rng(0)
    recorded = rng.multivariate_normal(MEAN, COVARIANCE, count).astype(np.float32)
    earlier = jnp.asarray(recorded.reshape(count, 3, 2))
    denoise = gaussian_denoiser(SCHEDULE)
    x = draw(denoise, warm, keys_of(count), (3, 2), earlier=earlier)
    x = np.asarray(x, np.float64).reshape(count, 6)
    deviations = np.sqrt(np.diag(COVARIANCE))
    # Five standard errors of a mean over 20,000, and as much for what 80 steps leave.
    np.testing.assert_allclose((x.mean(0) - MEAN) / deviations, 0, atol=0.07)
    scaled = (np.cov(x.T) - COVARIANCE) / np.outer(deviations, deviations)
    np.testing.assert_allclose(scaled, 0, atol=0.08)
    # It is another draw, and yet near the one it began with.
    correlation = np.corrcoef(x[:, 0], recorded[:, 0])[0, 1]
    assert 0.3 < correlation < 0.98


@pytest.mark.parametrize(("kind", "factor"), [("ancestral", 2), ("ddim", 2), ("dpm++", 4)])
def test_discretisation_vanishes_in_the_samplers_order(kind, factor):
    # Twice the steps: half the error in first order, a quarter in second.
    def error(steps):
        _, covariance = exact_result(Sampler(kind, steps), SCHEDULE)
        return np.abs(covariance - COVARIANCE).max()

    assert error(100) < error(50) / factor * 1.25


@pytest.mark.parametrize(
    "sampler",
    [
        Sampler("ancestral", 200),
        Sampler("ancestral", 50),
        Sampler("ddim", 20, eta=0.0),
        Sampler("ddim", 20, eta=0.3),
        Sampler("dpm++", 20),
        Sampler("dpm++", 3),
    ],
    ids=lambda s: f"{s.kind}-{s.eta}-{s.steps}",
)
def test_coefficients_are_the_published_ones(sampler):
    indices, rows = published_recursion(sampler, SCHEDULE)
    np.testing.assert_array_equal(sampler.step_indices(SCHEDULE), indices)
    np.testing.assert_allclose(sampler.coefficients(SCHEDULE), rows, atol=1e-9)


def test_ddim_with_eta_1_over_all_steps_is_the_ancestral_sampler():
    _, posterior = published_recursion(Sampler("ancestral", 200), SCHEDULE)
    got = Sampler("ddim", 200, eta=1.0).coefficients(SCHEDULE)
    np.testing.assert_allclose(got, posterior, atol=1e-9)


@pytest.mark.parametrize("kind", ["ancestral", "ddim", "dpm++"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_few_steps_end_at_the_last_prediction(kind, steps):
    # Whatever came before, the last step goes to x̂_0 without noise: a = c = d = 0, b = 1.
    last = Sampler(kind, steps, eta=1.0).coefficients(SCHEDULE)[-1]
    np.testing.assert_allclose(last, [0, 1, 0, 0], atol=1e-12)


def test_steps_visited_fall_from_the_noisiest_to_the_cleanest():
    schedule = cosine_schedule(50)
    for steps in range(1, 51):
        visited = Sampler(steps=steps).step_indices(schedule)
        assert len(visited) == steps
        assert visited[0] == 49
        assert (np.diff(visited) < 0).all()
        assert steps == 1 or visited[-1] == 0


def test_impossible_samplers_are_refused():
    for steps in (0, 201):
        with pytest.raises(ValueError, match=str(steps)):
            Sampler(steps=steps).step_indices(SCHEDULE)
    with pytest.raises(ValueError, match="euler"):
        Sampler("euler", 10).coefficients(SCHEDULE)


@every_kind
def test_known_values_are_in_every_call_and_in_the_result(sampler):
    shape = (4, 3)
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.uniform(-1, 1, (2, *shape)), jnp.float32)
    known = jnp.asarray(rng.uniform(size=(2, *shape)) < 0.4).at[0, 0].set(True).at[1, 3].set(False)
    calls = []

    def denoise(x, step):
        # One call without the known values makes a NaN, which survives to the end.
        kept = (jnp.where(known, x, values) == values).all()
        jax.debug.callback(calls.append, step[0])
        return jnp.where(kept, 0.1 * x, jnp.nan)

    x = draw(denoise, sampler, keys_of(2), shape, known=known, values=values, limit=1)
    jax.effects_barrier()
    assert jnp.isfinite(x).all()
    assert sorted(map(int, calls), reverse=True) == list(sampler.step_indices(SCHEDULE))
    np.testing.assert_array_equal(np.asarray(x)[known], np.asarray(values)[known])
    assert (np.asarray(x)[~known] != np.asarray(values)[~known]).all()


def test_known_values_steer_the_rest():
    # Of the Gaussian's six numbers the first token's two are known. The rest follows the
    # denoiser's conditional pull: its mean must move from the marginal towards E[rest | known].
    values = np.tile(MEAN.reshape(1, 3, 2), (2000, 1, 1))
    values[:, 0] += [0.6, -0.6]
    known = np.zeros(values.shape, bool)
    known[:, 0] = True
    x = draw(
        gaussian_denoiser(SCHEDULE),
        Sampler("ancestral", 200, temperature=1.0),
        keys_of(2000),
        (3, 2),
        known=jnp.asarray(known),
        values=jnp.asarray(values, jnp.float32),
    )
    moved = np.asarray(x).reshape(-1, 6)[:, 2:].mean(0) - MEAN[2:]
    pull = COVARIANCE[2:, :2] @ np.linalg.solve(COVARIANCE[:2, :2], [0.6, -0.6])
    assert moved @ pull > 0.25 * pull @ pull


class Recorder:
    """A network of known outputs, 1 without and 1 + 2y with the condition; notes batch sizes."""

    def __init__(self):
        self.batches = []

    def __call__(self, params, x, step, condition, keep):
        self.batches.append(len(x))
        return jnp.zeros_like(x) + (1 + 2 * condition * keep)[:, None, None]


@pytest.mark.parametrize(
    ("weight", "expected", "batches"),
    [
        (0.0, [1, 1, 1], [3]),
        (1.0, [3, 1, 0], [3]),
        # ε_∅ + w (ε_y - ε_∅) = 1 + 1.6 · 2y for y = 1, 0, -0.5.
        (1.6, [4.2, 1, -0.6], [6]),
        (0.5, [2, 1, 0.5], [6]),
    ],
)
def test_guidance_by_hand(weight, expected, batches):
    network = Recorder()
    denoise = guided(network, None, jnp.array([1.0, 0.0, -0.5]), weight)
    epsilon = denoise(jnp.zeros((3, 4, 2)), jnp.full(1, 7))
    assert network.batches == batches
    assert epsilon.shape == (3, 4, 2)
    np.testing.assert_allclose(epsilon[:, 0, 0], expected, atol=1e-6)
    assert (epsilon == epsilon[:, :1, :1]).all()


def test_guidance_pairs_each_sequence_with_its_own_inputs():
    def network(params, x, step, condition, keep):
        return params * x * (step * (1 + condition * keep))[:, None, None]

    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 2)), jnp.float32)
    step, y = jnp.array([3]), jnp.array([0.1, 0.2, 0.3])
    # 10 x k (1 + w y).
    expected = 10 * x * (step * (1 + 1.6 * y))[:, None, None]
    np.testing.assert_allclose(guided(network, 10.0, y, 1.6)(x, step), expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0, 1.6])
def test_one_condition_for_all_rows_is_that_of_each(weight):
    network = TemporalUNet(features=8, multipliers=(1,), kernel_size=3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 2)), jnp.float32)
    step, one = jnp.array([5]), jnp.ones(1)
    params = jax.jit(network.init)(jax.random.key(1), x, step, one, one)
    denoise = jax.jit(lambda y: guided(network.apply, params, y, weight)(x, step))
    of_all = denoise(jnp.array([0.7]))
    np.testing.assert_allclose(of_all, denoise(jnp.full(3, 0.7)), atol=1e-5)
    other = denoise(jnp.array([-3.0]))
    assert (np.abs(of_all - other).max() > 1e-2) == (weight != 0)


@every_kind
def test_a_sequence_depends_on_its_own_key_alone(sampler):
    def denoise(x, step):
        return jnp.tanh(x + x.mean((1, 2), keepdims=True)) + 0.01 * step[:, None, None]

    keys = keys_of(5)
    together = draw(denoise, sampler, keys, (4, 2), limit=1)
    alone = draw(denoise, sampler, keys[3:4], (4, 2), limit=1)
    np.testing.assert_allclose(together[3:4], alone, atol=1e-5)
    assert jnp.abs(together[3] - together[2]).max() > 1e-3


@every_kind
def test_predictions_are_clipped_to_each_dimensions_range(sampler):
    low, high = jnp.array([-1.0, -0.2, 2.0]), jnp.array([1.0, 0.5, 3.0])
    for sign in (-1, 1):
        x = sample(
            lambda x, step, sign=sign: jnp.full_like(x, sign * 1e6),
            SCHEDULE,
            sampler,
            known=jnp.zeros((2, 4, 3), bool).at[0, 0].set(True),
            known_values=jnp.full((2, 4, 3), 7.0),  # what is known is not clipped
            low=low,
            high=high,
            keys=keys_of(2),
        )
        end = low if sign > 0 else high
        np.testing.assert_allclose(x[1], jnp.tile(end, (4, 1)), atol=1e-6)
        np.testing.assert_array_equal(x[0, 0], [7, 7, 7])


@every_kind
def test_temperature_scales_the_noise(sampler):
    def cold(temperature):
        return Sampler(sampler.kind, sampler.steps, sampler.eta, temperature)

    def denoise(x, step):
        return 0.5 * x

    # Linear without a shift: half the temperature is half the sample, zero is zero for all keys.
    full = draw(denoise, cold(1.0), keys_of(3), (4, 2), limit=1e9)
    half = draw(denoise, cold(0.5), keys_of(3), (4, 2), limit=1e9)
    np.testing.assert_allclose(half, full / 2, rtol=1e-3, atol=1e-6 * float(jnp.abs(full).max()))
    first, second = (
        draw(gaussian_denoiser(SCHEDULE), cold(0.0), keys_of(3, seed), (3, 2)) for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first[0], first[1])


@pytest.mark.slow
def test_a_trained_model_honours_its_condition():
    # y = 0 gives sequences around -0.5, y = 1 around +0.5, both of deviation 0.05.
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 1024).astype(np.float32)
    x0 = (y - 0.5)[:, None, None] + 0.05 * rng.normal(size=(1024, 4, 1))
    schedule = cosine_schedule(20)
    # One level is enough. With 8 features each group of GroupNorm would be a single channel, and
    # take away the very level that is to be learnt.
    network = TemporalUNet(features=16, multipliers=(1,))

    def loss(params, _ema, batch, key):
        x0, y = batch
        return diffusion_loss(
            network.apply,
            params,
            schedule,
            x0,
            y,
            known=jnp.zeros(x0.shape, bool),
            known_values=x0,
            weight=jnp.ones_like(x0),
            drop_condition=0.25,
            key=key,
        )

    def take(data, key):
        rows = jax.random.randint(key, (64,), 0, 1024)
        return data[0][rows], data[1][rows]

    one = jnp.ones(1)
    training = Training(
        name="toy",
        init=lambda key: network.init(key, jnp.zeros((1, 4, 1)), jnp.zeros(1, jnp.int32), one, one),
        loss=loss,
        draw=take,
        data=(x0.astype(np.float32), y),
        optimizer=adam(5e-3, "cosine", 300),
        steps=300,
        keys=jax.random.key(0)[None],
    )
    params = jax.tree.map(jnp.asarray, of_seed(fit(training).params, 0))
    asked = jnp.repeat(jnp.array([0.0, 1.0]), 64)
    result = {}
    for weight in (0.0, 1.0):
        denoise = guided(network.apply, params, asked, weight)
        sampler = Sampler("ddim", 20, eta=1.0, temperature=1.0)
        x = jax.jit(
            lambda keys, denoise=denoise, sampler=sampler: draw(
                denoise, sampler, keys, (4, 1), limit=1, schedule=schedule
            )
        )(keys_of(128))
        result[weight] = np.asarray(x)[:, :, 0]
    low, high = result[1.0][:64], result[1.0][64:]
    assert low.mean() == pytest.approx(-0.5, abs=0.1)
    assert high.mean() == pytest.approx(0.5, abs=0.1)
    assert (low < 0).mean() > 0.95
    assert (high > 0).mean() > 0.95
    # Without the condition both kinds come, whatever was asked for.
    share = (result[0.0].mean(1) > 0).mean()
    assert 0.25 < share < 0.75
