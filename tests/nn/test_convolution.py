"""Convolutions: against literal loops, and one form against the other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tskd_jax.machine.platform import lowering_for
from tskd_jax.nn import convolution
from tskd_jax.nn.convolution import Conv1d, Downsample, Upsample, add_bias, convolution_form
from tskd_jax.nn.unet import TemporalUNet


@pytest.fixture(params=["matmul", "lax"])
def form(request):
    with convolution_form(request.param):
        yield request.param


def normal(shape, seed=0):
    """Drawn by NumPy: JAX would compile a draw for each shape."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_params(module, *inputs):
    """Parameters of a module, all of them random: biases that are zero would hide a mistake."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda leaf: 0.3 * normal(leaf.shape), shapes)


def numbers(module, time, channels=3, batch=2):
    """(x, params, kernel, bias) of a module, the last two in float64."""
    x = normal((batch, time, channels), seed=1)
    params = random_params(module, x)
    inner = params["params"]
    return x, params, np.asarray(inner["kernel"], np.float64), np.asarray(inner["bias"], np.float64)


def literal_convolution(x, kernel, bias, stride, padding):
    """y[o] = bias + Σ_k x[stride · o - padding + k] K[k], with zeros outside."""
    taps = len(kernel)
    out_time = (x.shape[1] + 2 * padding - taps) // stride + 1
    y = np.tile(bias, (x.shape[0], out_time, 1))
    for o in range(out_time):
        for k in range(taps):
            i = stride * o - padding + k
            if 0 <= i < x.shape[1]:
                y[:, o] += np.asarray(x[:, i], np.float64) @ kernel[k]
    return y


def literal_transposed_convolution(x, kernel, bias):
    """PyTorch's ConvTranspose1d(kernel 4, stride 2, padding 1), input by input."""
    batch, time, _ = x.shape
    y = np.tile(bias, (batch, 2 * time, 1))
    for i in range(time):
        for k in range(4):
            o = 2 * i - 1 + k
            if 0 <= o < 2 * time:
                # Stored as a convolution's kernel: the transposed one's, flipped.
                y[:, o] += np.asarray(x[:, i], np.float64) @ kernel[3 - k]
    return y


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("time", [1, 2, 7])
def test_conv1d_is_the_literal_loop(form, kernel_size, time):
    module = Conv1d(4, kernel_size)
    x, params, kernel, bias = numbers(module, time)
    expected = literal_convolution(x, kernel, bias, 1, kernel_size // 2)
    assert expected.shape == (2, time, 4)
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


@pytest.mark.parametrize("time", [2, 6, 7])
def test_downsample_is_the_literal_loop_with_a_zero_on_both_sides(form, time):
    module = Downsample(4)
    x, params, kernel, bias = numbers(module, time)
    expected = literal_convolution(x, kernel, bias, 2, 1)
    assert expected.shape == (2, (time + 1) // 2, 4)
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


def test_downsample_by_hand(form):
    # x = 1 2 3 4, K = 1 10 100: y[0] = 0·1 + 1·10 + 2·100 = 210, y[1] = 2·1 + 3·10 + 4·100 = 432.
    # With 'SAME' (one zero, on the right) it would be 321 and 43.
    params = {"params": {"kernel": jnp.array([1.0, 10, 100])[:, None, None], "bias": jnp.zeros(1)}}
    y = Downsample(1).apply(params, jnp.arange(1.0, 5.0)[None, :, None])
    np.testing.assert_array_equal(y[0, :, 0], [210, 432])


@pytest.mark.parametrize("time", [1, 2, 5])
def test_upsample_is_the_literal_transposed_convolution(form, time):
    module = Upsample(4)
    x, params, kernel, bias = numbers(module, time)
    expected = literal_transposed_convolution(x, kernel, bias)
    assert expected.shape == (2, 2 * time, 4)
    np.testing.assert_allclose(module.apply(params, x), expected, atol=1e-5)


def values_and_gradients(module, params, *inputs):
    """Output, and the gradient of Σ sin(output) with respect to parameters and first input."""

    def total(params, x):
        y = module.apply(params, x, *inputs[1:])
        return jnp.sin(y).sum(), y

    # A new function each time: compiled anew, in the form that is set now.
    (_, y), grads = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(params, inputs[0])
    return y, grads


def assert_forms_agree(module, params, *inputs, least=1.0):
    results = {}
    for name in ("matmul", "lax"):
        with convolution_form(name):
            results[name] = values_and_gradients(module, params, *inputs)
    for left, right in zip(*map(jax.tree.leaves, results.values()), strict=True):
        # Relative to the largest entry, or to `least`: gradients are sums of many terms.
        scale = max(least, float(jnp.abs(right).max()))
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("module", [Conv1d(4, 5), Conv1d(4, 1), Downsample(4), Upsample(4)])
@pytest.mark.parametrize("time", [2, 5])
def test_forms_agree_with_their_gradients(module, time):
    x, params, *_ = numbers(module, time)
    assert_forms_agree(module, params, x)


@pytest.mark.slow
def test_forms_agree_on_the_whole_unet_with_its_gradients():
    # 8 channels would be 8 groups of one: a norm takes off the bias before it, whose gradient would
    # be nothing but rounding.
    network = TemporalUNet(features=32, multipliers=(1, 2))
    inputs = (
        normal((2, 9, 3), seed=1),
        jnp.array([3, 150]),
        jnp.array([0.2, 0.9]),
        jnp.array([1.0, 0.0]),
    )
    params = random_params(network, *inputs)
    assert_forms_agree(network, params, *inputs, least=0.0)


@pytest.mark.parametrize(
    ("other", "dtype", "tolerance"),
    [
        *(("gpu", "float32", 1e-4), ("gpu", "bfloat16", 0.1)),
        *(("tpu", "float32", 1e-4), ("tpu", "bfloat16", 0.1)),
    ],
)
def test_what_is_compiled_for_another_platform_is_the_same(other, dtype, tolerance):
    # 9 tokens, then 5: shorter than the kernel on the way down, with single taps beside it.
    network = TemporalUNet(features=8, multipliers=(1, 2, 2), dtype=dtype)
    inputs = normal((2, 9, 3), seed=1), jnp.array([3, 150]), jnp.full(2, 0.2), jnp.ones(2)
    params = random_params(network, *inputs)
    results = []
    for name in ("cpu", other):
        with lowering_for(name):
            results.append(values_and_gradients(network, params, *inputs))
    for here, there in zip(*map(jax.tree.leaves, results), strict=True):
        scale = max(1.0, float(jnp.abs(here).max()))
        np.testing.assert_allclose(there, here, atol=tolerance * scale)


def products(function, *arguments) -> list[tuple[str, tuple[int, ...]]]:
    """(operation, shape of its right operand) of all products in a traced program."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name in ("conv_general_dilated", "dot_general"):
                yield equation.primitive.name, equation.invars[1].aval.shape
            # The rule for a gradient is not part of what runs without one.
            for part in (equation.params.get("call_jaxpr"), equation.params.get("jaxpr")):
                if part is not None:
                    yield from walk(getattr(part, "jaxpr", part))

    return list(walk(jax.make_jaxpr(function)(*arguments).jaxpr))


@pytest.mark.parametrize(
    ("backend", "time", "sampling", "training"),
    [
        ("cpu", 9, {"conv_general_dilated"}, {"conv_general_dilated", "dot_general"}),
        # Shorter than the kernel: XLA's convolution is slow there even without a gradient.
        ("cpu", 4, {"dot_general"}, {"dot_general"}),
        ("gpu", 9, {"conv_general_dilated"}, {"conv_general_dilated"}),
        ("gpu", 4, {"dot_general"}, {"dot_general"}),
        ("tpu", 4, {"conv_general_dilated"}, {"conv_general_dilated"}),
    ],
)
def test_auto_chooses_by_platform_gradient_and_length(backend, time, sampling, training):
    x, kernel = jnp.ones((2, time, 3)), jnp.ones((5, 3, 4))

    def forward(x, kernel):
        return convolution.convolve(x, kernel, 1, (2, 2))

    def gradient(x, kernel):
        return jax.grad(lambda x, kernel: forward(x, kernel).sum(), (0, 1))(x, kernel)

    with lowering_for(backend):
        assert {name for name, _ in products(forward, x, kernel)} == sampling
        found = products(gradient, x, kernel)
    assert {name for name, _ in found} == training
    if backend == "cpu":
        # XLA's own gradient is a convolution whose kernel is as long as the input: slow in a loop.
        assert all(shape[0] == 5 for name, shape in found if name == "conv_general_dilated")


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 4)])
def test_a_tpu_sums_up_the_gradient_of_a_bias_by_a_product(shape):
    y, bias = normal(shape, seed=0), normal((4,), seed=1)

    def gradients(y, bias):
        return jax.grad(lambda y, bias: jnp.sin(add_bias(y, bias)).sum(), (0, 1))(y, bias)

    for name, expected in (("cpu", set()), ("gpu", set()), ("tpu", {"dot_general"})):
        with lowering_for(name):
            assert {name for name, _ in products(gradients, y, bias)} == expected
            of_y, of_bias = gradients(y, bias)
        np.testing.assert_allclose(of_y, np.cos(y + bias[(None,) * (y.ndim - 1)]), rtol=1e-5)
        np.testing.assert_allclose(of_bias, of_y.reshape(-1, 4).sum(0), rtol=1e-5)


def test_a_single_tap_is_a_product_on_a_gpu():
    module, x = Conv1d(4, 1), jnp.ones((2, 9, 3))
    params = module.init(jax.random.key(0), x)
    for name, expected in (("gpu", {"dot_general"}), ("tpu", {"conv_general_dilated"})):
        with lowering_for(name):
            assert {name for name, _ in products(module.apply, params, x)} == expected
            found = values_and_gradients(module, params, x)
        with convolution_form("matmul"):
            same = values_and_gradients(module, params, x)
        for left, right in zip(*map(jax.tree.leaves, (found, same)), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("small_kernel", [0, 1 << 18])
@pytest.mark.parametrize(
    ("module", "time"),
    [
        (Conv1d(2, 5), 9),  # from 3 channels: the gradient is the narrower side
        (Conv1d(4, 5), 9),
        (Conv1d(4, 5), 4),
        (Conv1d(4, 1), 9),
        (Downsample(2), 9),
        (Upsample(2), 9),
        (Upsample(4), 1),
    ],
)
def test_auto_has_the_gradients_of_the_matrix_product(monkeypatch, module, time, small_kernel):
    monkeypatch.setattr(convolution, "SMALL_KERNEL", small_kernel)
    x, params, *_ = numbers(module, time)
    results = []
    for name in ("matmul", "auto"):
        with convolution_form(name):
            results.append(values_and_gradients(module, params, x))
    for left, right in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


def test_a_program_kept_for_one_platform_is_not_taken_for_another():
    convolve = jax.jit(lambda x, kernel: convolution.convolve(x, kernel, 1, (2, 2)))
    x, kernel = jnp.ones((2, 4, 3)), jnp.ones((5, 3, 4))
    here = convolve.lower(x, kernel).as_text()
    with lowering_for("tpu"):
        there = convolve.lower(x, kernel).as_text()
    assert "stablehlo.convolution" in there
    assert "stablehlo.convolution" not in here
    assert convolve.lower(x, kernel).as_text() == here
