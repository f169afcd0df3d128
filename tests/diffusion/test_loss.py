"""The diffusion loss: what counts, what does not, and what the network is shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.diffusion import as_noise, as_signal, cosine_schedule, diffusion_loss
from tskd_jax.diffusion.prediction import KINDS, target
from tskd_jax.diffusion.schedule import Schedule

SCHEDULE = cosine_schedule(50)


def loss_of(
    network, params, x0, *, known=None, known_values=None, weight=None, drop=0.25, seed=0, **kw
):
    """diffusion_loss with nothing known and even weights by default."""
    known = jnp.zeros(x0.shape, bool) if known is None else known
    return diffusion_loss(
        network,
        params,
        SCHEDULE,
        x0,
        jnp.zeros(x0.shape[0]),
        known=known,
        known_values=x0 if known_values is None else known_values,
        weight=jnp.ones(x0.shape) if weight is None else weight,
        drop_condition=drop,
        key=jax.random.key(seed),
        **kw,
    )


def clairvoyant(x0):
    """A network that knows x_0, and so the noise; its parameters are an error that it adds."""
    alphas_bar = jnp.asarray(SCHEDULE.alphas_bar, jnp.float32)

    def network(offsets, x, step, condition, keep):
        a = alphas_bar[step][:, None, None]
        return (x - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a) + offsets

    return network


def silent(params, x, step, condition, keep):
    return jnp.zeros_like(x)


def test_velocity_by_hand():
    # A network that is silent pays the velocity's square, and one that knows it pays nothing.
    x0 = sequences()
    seen = {}

    def knowing(params, x, step, condition, keep):
        a = jnp.asarray(SCHEDULE.alphas_bar, jnp.float32)[step][:, None, None]
        noise = (x - jnp.sqrt(a) * x0) / jnp.sqrt(1 - a)
        seen["velocity"] = jnp.sqrt(a) * noise - jnp.sqrt(1 - a) * x0
        return params * seen["velocity"]

    paid = [loss_of(knowing, scale, x0, prediction="velocity") for scale in (0.0, 1.0, 1.5)]
    expected = jnp.square(seen["velocity"]).mean()
    np.testing.assert_allclose(paid, expected * jnp.array([1, 0, 0.25]), rtol=1e-4, atol=1e-9)


def test_noise_is_read_out_of_every_prediction():
    # v = √ᾱ ε - √(1 - ᾱ) x_0 and x = √ᾱ x_0 + √(1 - ᾱ) ε give ε = √ᾱ v + √(1 - ᾱ) x.
    x0, step = sequences(), jnp.array([0, 10, 30, 49])
    noise = jnp.asarray(np.random.default_rng(1).normal(size=x0.shape), jnp.float32)
    a = jnp.asarray(SCHEDULE.alphas_bar, jnp.float32)[step][:, None, None]
    x = jnp.sqrt(a) * x0 + jnp.sqrt(1 - a) * noise
    for kind in KINDS:
        answer = target(kind, SCHEDULE, x0, noise, step)
        network = as_noise(kind, SCHEDULE, lambda *_, answer=answer: answer)
        ones = jnp.ones(4)
        # A signal's rounding is amplified where there is little noise.
        near = 1e-5 if kind == "signal" else 1e-6
        np.testing.assert_allclose(network(None, x, step, ones, ones), noise, atol=near)


def test_flow_by_hand():
    # ᾱ = 0.64: x = 0.8 · 2 + 0.6 · (-1) = 1, and the flow is ε - x_0 = -3. The way's position is
    # x / 1.4 = (1 - t) · 2 + t · (-1) at t = 3/7, and a step along the flow reaches ε at t = 1.
    schedule = Schedule(np.array([0.36]), np.array([0.64]))
    x0, noise, step = jnp.full((1, 1, 1), 2.0), jnp.full((1, 1, 1), -1.0), jnp.zeros(1, int)
    flow = target("flow", schedule, x0, noise, step)
    assert flow.item() == -3
    x, t = 1.0, 0.6 / 1.4
    assert x / 1.4 == pytest.approx(2 + t * -3)
    assert x / 1.4 + (1 - t) * flow.item() == pytest.approx(-1)
    arguments = None, jnp.full((1, 1, 1), x), step, jnp.ones(1), jnp.ones(1)
    assert as_noise("flow", schedule, lambda *_: flow)(*arguments).item() == pytest.approx(-1)
    assert as_signal("flow", schedule, lambda *_: flow)(*arguments).item() == pytest.approx(2)


def test_the_loss_of_a_flow_is_its_error():
    # Whoever is silent pays (ε - x_0)²; x_0 = 0 leaves ε², whose mean is 1.
    silence = loss_of(silent, None, jnp.zeros((400, 3, 2)), prediction="flow")
    assert silence == pytest.approx(1, abs=0.1)
    moved = loss_of(silent, None, jnp.full((400, 3, 2), 3.0), prediction="flow")
    assert moved == pytest.approx(10, abs=0.5)


def test_signal_is_read_out_of_every_prediction():
    x0, step = sequences(), jnp.array([0, 10, 30, 45])
    noise = jnp.asarray(np.random.default_rng(1).normal(size=x0.shape), jnp.float32)
    signal_scale, noise_scale = SCHEDULE.scales(step)
    x, ones = signal_scale * x0 + noise_scale * noise, jnp.ones(4)
    for kind in KINDS:
        answer = target(kind, SCHEDULE, x0, noise, step)
        network = as_signal(kind, SCHEDULE, lambda *_, answer=answer: answer)
        np.testing.assert_allclose(network(None, x, step, ones, ones), x0, atol=1e-5)


def sequences(batch=4, horizon=3, dim=2):
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (batch, horizon, dim)), jnp.float32)


def test_silence_costs_the_noises_variance():
    # ε² has mean 1 and variance 2: over 512 · 20 · 5 = 51200 draws the mean is off by 0.00625.
    value = loss_of(silent, None, sequences(512, 20, 5))
    assert value == pytest.approx(1, abs=5 * 0.00625)


def test_clairvoyance_costs_nothing():
    x0 = sequences()
    # float32 loses about 1e-7 / √(1 - ᾱ_0) = 1e-5 at the first steps.
    assert loss_of(clairvoyant(x0), jnp.zeros(x0.shape), x0) < 1e-8


def test_value_by_hand():
    # One sequence of three tokens of two numbers; errors and weights:
    #   errors   1  2 | 3  4 | 5  9
    #   weights  1  1 | 2  0 | .5 7     the last entry is known, so its 9 and its 7 do not count
    # (1·1 + 1·4 + 2·9 + 0·16 + 0.5·25) / (1 + 1 + 2 + 0 + 0.5) = 35.5 / 4.5.
    x0 = sequences(1)
    errors = jnp.array([[[1.0, 2], [3, 4], [5, 9]]])
    weight = jnp.array([[[1.0, 1], [2, 0], [0.5, 7]]])
    known = jnp.zeros(x0.shape, bool).at[0, 2, 1].set(True)
    value = loss_of(clairvoyant(x0), errors, x0, known=known, weight=weight)
    assert value == pytest.approx(35.5 / 4.5, rel=1e-4)


def test_known_and_weightless_entries_have_no_gradient():
    x0 = sequences()
    known = jnp.zeros(x0.shape, bool).at[:, 0, :].set(True)
    weight = jnp.ones(x0.shape).at[1, 2, 1].set(0.0)
    slope = jax.grad(
        lambda offsets: loss_of(clairvoyant(x0), offsets, x0, known=known, weight=weight)
    )(jnp.ones(x0.shape))
    silenced = np.asarray(known | (weight == 0))
    assert (np.asarray(slope)[silenced] == 0).all()
    # Everything else: 2 · error / (4 · 3 · 2 entries - 8 known - 1 without weight = 15).
    np.testing.assert_allclose(np.asarray(slope)[~silenced], 2 / 15, rtol=1e-3)


def test_nothing_that_counts_is_no_division_by_zero():
    x0 = sequences()
    value, slope = jax.value_and_grad(
        lambda offsets: loss_of(clairvoyant(x0), offsets, x0, weight=jnp.zeros(x0.shape))
    )(jnp.ones(x0.shape))
    assert value == 0
    assert (slope == 0).all()


def test_network_sees_the_known_values_as_they_are():
    x0 = sequences()
    known = jnp.zeros(x0.shape, bool).at[:, :2, 0].set(True)
    blurred = x0 + 0.1
    seen = []

    def network(params, x, step, condition, keep):
        seen.append(x)
        return jnp.zeros_like(x)

    loss_of(network, None, x0, known=known, known_values=blurred)
    mask = np.asarray(known)
    np.testing.assert_array_equal(np.asarray(seen[0])[mask], np.asarray(blurred)[mask])
    assert (np.asarray(seen[0])[~mask] != np.asarray(x0)[~mask]).all()


@pytest.mark.parametrize("drop", [0.0, 0.25, 1.0])
def test_condition_is_dropped_as_often_as_asked_and_every_step_is_trained(drop):
    keeps, steps = [], []

    def network(params, x, step, condition, keep):
        keeps.append(np.asarray(keep))
        steps.append(np.asarray(step))
        return jnp.zeros_like(x)

    for seed in range(5):
        loss_of(network, None, jnp.zeros((4000, 1, 1)), drop=drop, seed=seed)
    keeps, steps = np.concatenate(keeps), np.concatenate(steps)
    assert set(keeps) <= {0.0, 1.0}
    # 20000 coins: the share's deviation is √(p (1 - p) / 20000) ≤ 0.0031.
    deviation = np.sqrt(drop * (1 - drop) / len(keeps))
    assert abs(keeps.mean() - (1 - drop)) <= 5 * deviation
    # 50 steps, each 400 times, give or take √(20000 · 0.02 · 0.98) = 20.
    counts = np.bincount(steps, minlength=50)
    assert len(counts) == 50
    assert (np.abs(counts - 400) < 100).all()
    if drop == 0.25:  # dropping is decided by itself: it does not depend on the step
        assert abs(np.corrcoef(keeps, steps)[0, 1]) < 5 / np.sqrt(len(keeps))
