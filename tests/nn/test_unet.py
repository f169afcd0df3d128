"""The temporal U-Net: golden counts, its parts by hand, parity with the same net in PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decision_diffuser import torch_unet

from tskd_jax.nn.convolution import Conv1d, Downsample, Upsample
from tskd_jax.nn.mlp import MLP, count_parameters
from tskd_jax.nn.unet import ConvBlock, TemporalUNet, mish, sinusoidal_embedding


def shapes_of(network, dim, horizon=8):
    """The parameters' shapes, without computing anything."""
    one = jnp.ones(1)
    x = jnp.zeros((1, horizon, dim))
    return jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1, jnp.int32), one, one)


def random_unet(dim=3, horizon=8, multipliers=(1, 2, 4), seed=0):
    """A small network, every parameter random: fresh biases are zero and would hide mistakes."""
    network = TemporalUNet(features=8, multipliers=multipliers)
    rng = np.random.default_rng(seed)  # NumPy: JAX would compile a draw for each shape
    return network, jax.tree.map(
        lambda s: jnp.asarray(0.3 * rng.normal(size=s.shape), s.dtype),
        shapes_of(network, dim, horizon),
    )


def inputs_of(batch=3, dim=3, horizon=8, seed=1):
    rng = np.random.default_rng(seed)
    x = jnp.asarray(rng.normal(size=(batch, horizon, dim)), jnp.float32)
    y = jnp.asarray(rng.uniform(size=batch), jnp.float32)
    return x, jnp.arange(batch) * 37 % 200, y, jnp.ones(batch)


@pytest.mark.parametrize(
    ("dim", "count"),
    [
        (11, 59_732_491),
        (12, 59_733_388),
        (17, 59_737_873),
        (18, 59_738_770),
        (23, 59_743_255),
        (35, 59_754_019),
        (60, 59_776_444),
    ],
)
def test_golden_parameter_counts(dim, count):
    # Per input dimension: conv5 640 and the 1×1 skip 128 going in, 128 weights and a bias coming
    # out. 640 + 128 + 128 + 1 = 897 = 59_733_388 - 59_732_491.
    assert count_parameters(shapes_of(TemporalUNet(), dim)) == count


@pytest.mark.parametrize(
    ("state", "action", "count"), [(11, 3, 69_635), (17, 6, 71_942)], ids=["hopper", "walker2d"]
)
def test_golden_student_counts(state, action, count):
    # hopper: (11 + 1) 256 + (256 + 1) 256 + (256 + 1) 3 = 3072 + 65792 + 771.
    # halfcheetah and walker2d: (17 + 1) 256 + (256 + 1) 256 + (256 + 1) 6 = 4608 + 65792 + 1542.
    init = MLP((256, 256), action).init
    assert count_parameters(jax.eval_shape(init, jax.random.key(0), jnp.zeros((1, state)))) == count


def test_mish_is_x_tanh_softplus_x():
    x = np.concatenate(
        [np.linspace(-80, 80, 4001), [-1e30, -1e4, -200, 0, 19.99, 20.01, 1e4, 1e30]]
    )
    x = x.astype(np.float32)
    wide = x.astype(np.float64)
    expected = wide * np.tanh(np.logaddexp(0, wide))
    # In units of 1 + |x|: float32 itself holds no more than 6e-8 of a number.
    error = np.abs(np.asarray(mish(jnp.asarray(x)), np.float64) - expected)
    assert (error / np.maximum(1, np.abs(expected))).max() < 1e-6


def test_mish_has_finite_gradients_everywhere():
    x = jnp.array([-1e30, -100.0, -1.0, 0.0, 1.0, 20.0, 100.0, 1e30])
    slope = jax.vmap(jax.grad(mish))(x)
    assert jnp.isfinite(slope).all()
    # tanh(softplus(0)) = tanh(ln 2) = (4 - 1)/(4 + 1) = 0.6; the slope is 0 and 1 far out.
    np.testing.assert_allclose(slope[jnp.array([0, 1, 3, 6, 7])], [0, 0, 0.6, 1, 1], atol=1e-6)


def test_sinusoidal_embedding_has_sines_first():
    # Size 6: half = 3, frequencies 10000^(-i/2) = 1, 0.01, 0.0001.
    got = sinusoidal_embedding(jnp.array([0, 7]), 6)
    angles = np.array([7, 0.07, 0.0007])
    np.testing.assert_allclose(got[0], [0, 0, 0, 1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(got[1], [*np.sin(angles), *np.cos(angles)], atol=1e-6)


def test_levels_of_equal_width_are_halved_too():
    # 3 levels of widths 8, 16, 16: horizon 8 becomes 4, then 2, and comes back.
    network, params = random_unet(multipliers=(1, 2, 2))
    assert jax.eval_shape(network.apply, params, *inputs_of()).shape == (3, 8, 3)
    inner = params["params"]
    assert {"Downsample_0", "Downsample_1", "Upsample_0", "Upsample_1"} <= inner.keys()
    assert "Downsample_2" not in inner


@pytest.mark.parametrize("horizon", [101, 12, 5])
def test_any_horizon_keeps_its_length_and_is_padded_with_zeros_on_the_right(horizon):
    network, params = random_unet()
    x, *rest = inputs_of(batch=2, horizon=horizon)
    apply = jax.jit(network.apply)
    y = apply(params, x, *rest)
    assert y.shape == x.shape
    padded = jnp.pad(x, ((0, 0), (0, -horizon % 4), (0, 0)))
    np.testing.assert_allclose(y, apply(params, padded, *rest)[:, :horizon], atol=1e-5)


def test_condition_counts_only_where_it_is_kept():
    network, params = random_unet()
    apply = jax.jit(network.apply)
    x, step, y, _ = inputs_of()
    keep = jnp.array([0.0, 1.0, 0.0])
    first, second = (apply(params, x, step, y + shift, keep) for shift in (0.0, 2.0))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[2], second[2])
    assert jnp.abs(first[1] - second[1]).max() > 1e-3
    # "No condition" is a zero embedding, not the embedding of y = 0.
    zero = jnp.zeros_like(y)
    dropped, kept = (apply(params, x, step, zero, zero + k) for k in (0.0, 1.0))
    assert jnp.abs(dropped - kept).max() > 1e-3


def test_conditions_fewer_than_rows_repeat_in_turn():
    network, params = random_unet()
    x, step = inputs_of(batch=6)[0], jnp.array([7])
    y, keep = jnp.array([1.0, -5.0, 9.0]), jnp.array([1.0, 1.0, 0.0])
    few = network.apply(params, x, step, y, keep)
    each = network.apply(params, x, jnp.full(6, 7), jnp.tile(y, 2), jnp.tile(keep, 2))
    np.testing.assert_allclose(few, each, atol=1e-6)
    repeated = network.apply(params, x, step, jnp.repeat(y, 2), jnp.repeat(keep, 2))
    assert np.abs(few - repeated).max() > 1e-3


def test_sequences_of_a_batch_do_not_touch_one_another_and_the_step_counts():
    network, params = random_unet()
    apply = jax.jit(network.apply)
    x, step, y, keep = inputs_of()
    whole = apply(params, x, step, y, keep)
    alone = apply(params, x[1:2], step[1:2], y[1:2], keep[1:2])
    np.testing.assert_allclose(whole[1:2], alone, atol=1e-5)
    assert jnp.abs(whole - apply(params, x, step + 1, y, keep)).max() > 1e-4


def test_bfloat16_computes_in_bfloat16_and_answers_in_the_inputs_type():
    network, params = random_unet(multipliers=(1, 2))
    half = network.clone(dtype="bfloat16")
    inputs = inputs_of()
    got, expected = (jax.jit(net.apply)(params, *inputs) for net in (half, network))
    assert got.dtype == jnp.float32
    error = jnp.abs(got - expected).max() / jnp.abs(expected).max()
    assert 0 < error < 0.1  # bfloat16 has 8 bits


def imported(torch, module, network, *inputs):
    """PyTorch's weights as this network's parameters.

    Both nets run once and their layers are matched in the order in which they are called, so that
    no name of either side is needed.
    """
    leaves, calls, paths = (torch.nn.Conv1d, torch.nn.ConvTranspose1d, torch.nn.Linear), [], []
    for layer in module.modules():
        if isinstance(layer, (*leaves, torch.nn.GroupNorm)):
            layer.register_forward_hook(lambda layer, _in, _out: calls.append(layer))

    def note(call, args, kwargs, context):
        if isinstance(context.module, (nn.Dense, nn.GroupNorm, Conv1d, Downsample, Upsample)):
            paths.append(context.module.path)
        return call(*args, **kwargs)

    module(*(torch.tensor(np.asarray(a)) for a in inputs))
    with nn.intercept_methods(note):
        shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    params = {}
    for path, layer in zip(paths, calls, strict=True):
        weight = layer.weight.detach().numpy()
        if isinstance(layer, torch.nn.ConvTranspose1d):
            weight = weight[:, :, ::-1].transpose(2, 0, 1)
        elif isinstance(layer, torch.nn.Conv1d):
            weight = weight.transpose(2, 1, 0)
        else:
            weight = weight.T
        name = "scale" if isinstance(layer, torch.nn.GroupNorm) else "kernel"
        node = params
        for part in path:
            node = node.setdefault(part, {})
        node |= {name: jnp.asarray(weight.copy()), "bias": jnp.asarray(layer.bias.detach().numpy())}
    params = {"params": params}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    return params


@pytest.mark.parametrize(
    ("features", "multipliers", "horizon"), [(16, (1, 4, 8), 13), (32, (1, 2), 12)]
)
def test_parity_with_the_same_network_in_pytorch(features, multipliers, horizon):
    torch = pytest.importorskip("torch", reason="parity is checked where PyTorch is installed")
    torch.manual_seed(0)
    module = torch_unet(torch, 5, features, multipliers)
    network = TemporalUNet(features=features, multipliers=multipliers)
    x, step, y, _ = inputs_of(batch=4, dim=5, horizon=horizon)
    inputs = (x, step, y, jnp.array([1.0, 0.0, 1.0, 0.0]))
    params = imported(torch, module, network, *inputs)
    with torch.no_grad():
        expected = module(*(torch.tensor(np.asarray(a)) for a in inputs)).numpy()
    got = np.asarray(jax.jit(network.apply)(params, *inputs))
    print("largest difference", np.abs(got - expected).max(), "of", np.abs(expected).max())
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_group_norm_by_hand():
    # 8 groups of one channel; times 0 and 1 hold 1 and 3: mean 2, variance 1, so -1 and 1 (to
    # epsilon 1e-5), and mish(±1) = ±tanh(ln(1 + e^±1)) = 0.865098 and -0.303401.
    block = ConvBlock(features=8, kernel_size=1)
    x = jnp.broadcast_to(jnp.array([1.0, 3.0])[None, :, None], (1, 2, 8))
    params = block.init(jax.random.key(0), x)
    params["params"]["Conv1d_0"]["kernel"] = jnp.eye(8)[None]
    expected = np.tile([[-0.303401], [0.865098]], (1, 1, 8))
    np.testing.assert_allclose(block.apply(params, x), expected, atol=1e-4)
