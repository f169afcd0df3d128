"""Released weights: from a checkpoint to the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decision_diffuser import torch_unet

from tskd_jax.errors import WeightsError
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.nn.torch_import import (
    EMBEDDINGS,
    INSIDE_BLOCK,
    LAST,
    from_state_dict,
    load_decision_diffuser,
)
from tskd_jax.nn.unet import TemporalUNet

DIM, FEATURES, MULTIPLIERS = 5, 16, (1, 4, 8)


def shapes_of(network: TemporalUNet, dim: int):
    one = jnp.ones(1)
    x, step = jnp.zeros((1, 8, dim)), jnp.zeros(1, jnp.int32)
    return jax.eval_shape(network.init, jax.random.key(0), x, step, one, one)


def state_dict(network: TemporalUNet, dim: int) -> dict[str, np.ndarray]:
    """Names and shapes of the released network, written out from its description."""
    rng = np.random.default_rng(0)
    arrays = {}

    def layer(name, *shape, bias=None):
        arrays[f"{name}.weight"] = rng.normal(size=shape).astype(np.float32)
        arrays[f"{name}.bias"] = rng.normal(size=bias or shape[0]).astype(np.float32)

    def conv_block(name, size_in, size_out):
        layer(f"{name}.block.0", size_out, size_in, network.kernel_size)
        layer(f"{name}.block.2", size_out)

    def residual(name, size_in, size_out):
        conv_block(f"{name}.blocks.0", size_in, size_out)
        conv_block(f"{name}.blocks.1", size_out, size_out)
        layer(f"{name}.time_mlp.1", size_out, 2 * f)
        if size_in != size_out:
            layer(f"{name}.residual_conv", size_out, size_in, 1)

    f, sizes = network.features, [network.features * m for m in network.multipliers]
    layer("time_mlp.1", 4 * f, f)
    layer("time_mlp.3", f, 4 * f)
    layer("returns_mlp.0", f, 1)
    layer("returns_mlp.2", 4 * f, f)
    layer("returns_mlp.4", f, 4 * f)
    before = dim
    for level, size in enumerate(sizes):
        residual(f"downs.{level}.0", before, size)
        residual(f"downs.{level}.1", size, size)
        if level < len(sizes) - 1:
            layer(f"downs.{level}.2.conv", size, size, 3)
        before = size
    residual("mid_block1", before, before)
    residual("mid_block2", before, before)
    for level, size in enumerate(sizes[-2::-1]):
        residual(f"ups.{level}.0", 2 * sizes[-1 - level], size)
        residual(f"ups.{level}.1", size, size)
        layer(f"ups.{level}.2.conv", size, size, 4)
    conv_block("final_conv.0", f, f)
    layer("final_conv.1", dim, f, 1)
    return arrays


@pytest.mark.parametrize(
    ("features", "multipliers", "kernel_size"), [(8, (1, 4, 8), 5), (16, (1, 2), 3), (8, (1,), 5)]
)
def test_every_parameter_is_filled(features, multipliers, kernel_size):
    expected = TemporalUNet(features, multipliers, kernel_size)
    arrays = state_dict(expected, DIM)
    network, params = from_state_dict(arrays)
    assert network == expected
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes_of(expected, DIM))
    assert count_parameters(params) == sum(array.size for array in arrays.values())


def test_a_transposed_kernel_is_flipped():
    arrays = state_dict(TemporalUNet(8, (1, 2)), DIM)
    _, params = from_state_dict(arrays)
    weight = arrays["ups.0.2.conv.weight"]  # (in, out, k)
    kernel = params["params"]["Upsample_0"]["kernel"]  # (k, in, out)
    np.testing.assert_array_equal(kernel[0], weight[:, :, 3])
    np.testing.assert_array_equal(kernel[3], weight[:, :, 0])


def test_the_network_may_lie_inside_a_diffusion_model_on_many_devices():
    bare = state_dict(TemporalUNet(8, (1, 2)), DIM)
    whole = {f"module.model.{name}": array for name, array in bare.items()}
    whole |= {"module.betas": np.zeros(200), "module.inv_model.0.weight": np.zeros((2, 2))}
    left, right = from_state_dict(bare)[1], from_state_dict(whole)[1]
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_what_it_is_not_is_said():
    arrays = state_dict(TemporalUNet(8, (1, 2)), DIM)
    unconditional = {n: a for n, a in arrays.items() if not n.startswith("returns_mlp")}
    with pytest.raises(WeightsError, match="no returns_mlp"):
        from_state_dict(unconditional)
    with pytest.raises(WeightsError, match="no returns_mlp"):
        from_state_dict({})
    for missing in (
        *(f"{name}.bias" for name in EMBEDDINGS),
        *(f"mid_block1.{name}.weight" for name in INSIDE_BLOCK if name != "residual_conv"),
        *(f"{name}.bias" for name in LAST),
        *(f"downs.{level}.0.blocks.0.block.0.bias" for level in (0, 1)),
        "downs.0.0.blocks.0.block.0.weight",
    ):
        with pytest.raises(WeightsError, match=f"{missing} is missing"):
            from_state_dict({n: a for n, a in arrays.items() if n != missing})
    without_levels = {n: a for n, a in arrays.items() if not n.startswith("downs")}
    with pytest.raises(WeightsError, match=r"downs\.0\..* is missing"):
        from_state_dict(without_levels)
    with pytest.raises(WeightsError, match=r"attention\.weight is not a part"):
        from_state_dict(arrays | {"attention.weight": np.zeros(3)})


def test_without_torch_one_line_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(WeightsError, match=r"pip install 'tskd_jax\[torch\]'"):
        load_decision_diffuser(tmp_path / "state.pt")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="parity is checked where PyTorch is installed")


def test_a_checkpoint_gives_the_same_numbers(torch, tmp_path):
    torch.manual_seed(0)
    modules = {name: torch_unet(torch, DIM, FEATURES, MULTIPLIERS) for name in ("model", "ema")}
    saved = {
        name: {f"model.{key}": leaf for key, leaf in module.state_dict().items()}
        for name, module in modules.items()
    }
    path = tmp_path / "state_1000.pt"
    torch.save({"step": 1000, **saved}, path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 13, DIM)).astype(np.float32)
    y = rng.uniform(size=4).astype(np.float32)
    inputs = (x, np.arange(4) * 50, y, np.array([1, 0, 1, 0], np.float32))
    for weights, module in modules.items():
        network, params = load_decision_diffuser(path, weights)
        with torch.no_grad():
            expected = module(*(torch.tensor(a) for a in inputs)).numpy()
        got = np.asarray(jax.jit(network.apply)(params, *inputs))
        print("largest difference", np.abs(got - expected).max(), "of", np.abs(expected).max())
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_other_files_are_refused_in_one_line(torch, tmp_path):
    text, number = tmp_path / "notes.pt", tmp_path / "number.pt"
    text.write_text("not a checkpoint")
    torch.save(3, number)
    with pytest.raises(WeightsError, match=r"notes\.pt: not a PyTorch checkpoint"):
        load_decision_diffuser(text)
    with pytest.raises(WeightsError, match=r"number\.pt: holds a int"):
        load_decision_diffuser(number)
    with pytest.raises(WeightsError, match=r"missing\.pt: not a PyTorch checkpoint"):
        load_decision_diffuser(tmp_path / "missing.pt")
