"""Weights of a released Decision Diffuser (PyTorch) as parameters of `TemporalUNet`."""

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tskd_jax.errors import WeightsError
from tskd_jax.nn.unet import TemporalUNet

# PyTorch's name -> ours. Blocks are numbered in the network's order, see `from_state_dict`.
EMBEDDINGS = {
    "time_mlp.1": "Dense_1",
    "time_mlp.3": "Dense_0",
    "returns_mlp.0": "Dense_3",
    "returns_mlp.2": "Dense_2",
    "returns_mlp.4": "Dense_4",
}
INSIDE_BLOCK = {
    "blocks.0.block.0": ("ConvBlock_0", "Conv1d_0"),
    "blocks.0.block.2": ("ConvBlock_0", "GroupNorm_0"),
    "time_mlp.1": ("Dense_0",),
    "blocks.1.block.0": ("ConvBlock_1", "Conv1d_0"),
    "blocks.1.block.2": ("ConvBlock_1", "GroupNorm_0"),
    "residual_conv": ("skip",),
}
LAST = {
    "final_conv.0.block.0": ("ConvBlock_0", "Conv1d_0"),
    "final_conv.0.block.2": ("ConvBlock_0", "GroupNorm_0"),
    "final_conv.1": ("out",),
}


def load_decision_diffuser(
    path: str | os.PathLike, weights: str = "ema"
) -> tuple[TemporalUNet, dict[str, Any]]:
    """The U-Net of a Decision Diffuser checkpoint.

    Reads what its trainer saves (`{"step", "model", "ema"}`), the state dict of its diffusion model
    (`model.…`; other entries are ignored) or that of a bare TemporalUnet. The network must have
    been trained with returns as condition and with Mish (`calc_energy` off, which the weights do
    not show).

    Args:
      path: the file; read with `weights_only`, so nothing in it is executed.
      weights: `ema` or `model`, if the file has both.

    Returns:
      (network, parameters): `network.apply(parameters, x, step, condition, keep_condition)`.

    Raises:
      WeightsError: PyTorch is not installed, or the file is not such a checkpoint.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise WeightsError(
            "reading a PyTorch checkpoint needs PyTorch: pip install 'tskd_jax[torch]'"
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: not a PyTorch checkpoint ({reason})") from error
    if isinstance(content, Mapping) and weights in content:
        content = content[weights]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state dict")
    arrays = {name: leaf.float().numpy() for name, leaf in content.items() if torch.is_tensor(leaf)}
    try:
        return from_state_dict(arrays)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def from_state_dict(arrays: Mapping[str, np.ndarray]) -> tuple[TemporalUNet, dict[str, Any]]:
    """Like `load_decision_diffuser`, from a mapping of names to arrays."""
    arrays = {name.removeprefix("module."): array for name, array in arrays.items()}
    if any(name.startswith("model.") for name in arrays):
        arrays = {n.removeprefix("model."): a for n, a in arrays.items() if n.startswith("model.")}
    if "returns_mlp.0.weight" not in arrays:
        raise WeightsError(
            "no returns_mlp: not a Decision Diffuser that was trained with returns as condition"
        )
    arrays = dict(arrays)

    def shape(name: str) -> tuple[int, ...]:
        if name not in arrays:
            raise WeightsError(f"{name} is missing")
        return arrays[name].shape

    def take(name: str) -> np.ndarray:
        shape(name)
        return arrays.pop(name)

    params: dict[str, Any] = {}

    def put(source: str, path: tuple[str, ...], transposed: bool = False) -> None:
        """Store one layer: its kernel (or scale) in our axis order, and its bias."""
        weight = take(f"{source}.weight")
        name = "scale" if weight.ndim == 1 else "kernel"
        if transposed:
            # A transposed convolution's is (in, out, k), flipped relative to a convolution's.
            weight = weight[:, :, ::-1].transpose(2, 0, 1)
        elif weight.ndim == 3:
            weight = weight.transpose(2, 1, 0)
        else:
            weight = weight.T
        node = params
        for part in path:
            node = node.setdefault(part, {})
        node |= {name: np.ascontiguousarray(weight), "bias": take(f"{source}.bias")}

    features = shape("returns_mlp.0.weight")[0]
    levels = 1 + max((int(found[1]) for found in map(_DOWN.match, arrays) if found), default=-1)
    blocks = [f"downs.{level}.{i}" for level in range(levels) for i in (0, 1)]
    blocks += ["mid_block1", "mid_block2"]
    blocks += [f"ups.{level}.{i}" for level in range(levels - 1) for i in (0, 1)]
    kernel_size = shape("downs.0.0.blocks.0.block.0.weight")[2]
    channels = [shape(f"downs.{i}.0.blocks.0.block.0.bias")[0] for i in range(levels)]
    for source, name in EMBEDDINGS.items():
        put(source, (name,))
    for number, block in enumerate(blocks):
        for source, path in INSIDE_BLOCK.items():
            # A block that keeps the number of channels has no such convolution.
            if source != "residual_conv" or f"{block}.{source}.weight" in arrays:
                put(f"{block}.{source}", (f"ResidualBlock_{number}", *path))
    for level in range(levels - 1):
        put(f"downs.{level}.2.conv", (f"Downsample_{level}",))
        put(f"ups.{level}.2.conv", (f"Upsample_{level}",), transposed=True)
    for source, path in LAST.items():
        put(source, path)
    if arrays:
        raise WeightsError(f"{next(iter(arrays))} is not a part of the U-Net that is known here")
    network = TemporalUNet(features, tuple(n // features for n in channels), kernel_size)
    return network, {"params": params}


_DOWN = re.compile(r"downs\.(\d+)\.0\.")
