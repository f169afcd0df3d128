"""Convolutions over time, in several forms with one parameter layout.

XLA's CPU backend is fast at `lax.conv` (slightly faster than at the same convolution written as one
matrix product over shifted slices), but not at its gradient, which is ten times slower inside
`lax.scan`. So on a CPU the gradient is written out below. In an input shorter than the kernel, most
taps would meet padding. It is multiplied by the matrix of the convolution instead, without padding;
on a TPU that costs more than it saves. Everything else on accelerators is `lax.conv`, except for
kernels of one tap on a GPU. "CPU" means the platform that a program is lowered for
(`machine/platform.py`), whatever devices this machine has.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tskd_jax.machine.platform import platform

FORMS = ("auto", "matmul", "lax")
# The form of every convolution traced within this context; `auto` chooses by platform.
convolution_form = jax.make_user_context(default_value="auto")
SMALL_KERNEL = 1 << 18  # in · out: up to this size, flipping and transposing the kernel is cheap


def convolve(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "tap in out"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch out_time out"]:
    """Cross-correlation along time, as PyTorch's Conv1d defines it (in `convolution_form`)."""
    form, where = convolution_form.value, platform()
    if form == "matmul":
        return _as_matmul(x, kernel, stride, padding)
    if form == "lax" or where == "tpu":
        return _as_lax(x, kernel, stride, padding)
    if x.shape[1] < kernel.shape[0]:
        return _as_dense(x, kernel, stride, padding)
    if where == "cpu":
        return _with_gradient(x, kernel, stride, padding)
    if kernel.shape[0] == 1 and stride == 1:
        # For the gradient of x, a convolution of one tap would have to transpose its weights. The
        # barrier: XLA's own products do not take an x that they would have to concatenate.
        return _as_matmul(jax.lax.optimization_barrier(x), kernel, stride, padding)
    return _as_lax(x, kernel, stride, padding)


def _as_lax(
    x: Array, kernel: Array, stride: int, padding: tuple[int, int], spacing: int = 1
) -> Array:
    """The convolution of x, between whose entries there are `spacing` - 1 zeros."""
    return jax.lax.conv_general_dilated(
        *(x, kernel, (stride,), (padding,), (spacing,)), dimension_numbers=("NWC", "WIO", "NWC")
    )


def _as_matmul(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    taps, size_in, size_out = kernel.shape
    if taps == 1 and stride == 1 and padding == (0, 0):
        return x @ kernel[0]
    columns = _columns(x, taps, stride, padding)
    flat = columns.reshape(-1, taps * size_in) @ kernel.reshape(taps * size_in, size_out)
    return flat.reshape(*columns.shape[:2], size_out)


def _columns(x: Array, taps: int, stride: int, padding: tuple[int, int]) -> Array:
    """(batch, out_time, taps · in): the inputs of all taps, side by side."""
    return jnp.concatenate(_slices(x, taps, stride, padding), -1)


def _slices(x: Array, taps: int, stride: int, padding: tuple[int, int]) -> list[Array]:
    """The inputs of each tap: `taps` arrays (batch, out_time, in)."""
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    out_time = (x.shape[1] - taps) // stride + 1
    ends = [tap + (out_time - 1) * stride + 1 for tap in range(taps)]
    return [x[:, tap : ends[tap] : stride] for tap in range(taps)]


def _as_dense(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    """The convolution as one product with its matrix, (time · in, out_time · out)."""
    (batch, time, size_in), (taps, _, size_out) = x.shape, kernel.shape
    out_time = (time + sum(padding) - taps) // stride + 1
    # The tap that connects input s to output t.
    tap = np.arange(time)[:, None] + padding[0] - stride * np.arange(out_time)[None]
    joined = (tap >= 0) & (tap < taps)
    blocks = jnp.where(joined[..., None, None], kernel[np.clip(tap, 0, taps - 1)], 0)
    matrix = blocks.transpose(0, 2, 1, 3).reshape(time * size_in, out_time * size_out)
    return _product(x.reshape(batch, -1), matrix).reshape(batch, out_time, size_out)


def _turned(matrix: Array) -> Array:
    """Transpose in memory: otherwise XLA multiplies by the original layout, twice as slowly."""
    return jax.lax.optimization_barrier(matrix.T)


@jax.custom_vjp
def _product(x: Array, matrix: Array) -> Array:
    return x @ matrix


def _product_backward(saved, gradient):
    x, matrix = saved
    return gradient @ _turned(matrix), x.T @ gradient


_product.defvjp(lambda x, matrix: (x @ matrix, (x, matrix)), _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _with_gradient(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    form = _as_lax if kernel.shape[0] > 1 else _as_matmul
    return form(x, kernel, stride, padding)


def _forward(x, kernel, stride, padding):
    return _with_gradient(x, kernel, stride, padding), (x, kernel)


def _backward(stride, padding, saved, gradient):
    """The gradient as matrix products, or as another convolution where that is faster."""
    x, kernel = saved
    taps, size_in, size_out = kernel.shape
    # For stride 1, the gradient of x is also a convolution, with the kernel flipped.
    mirrored = (taps - 1 - padding[0], taps - 1 - padding[1])
    flat = gradient.reshape(-1, size_out)
    if stride == 1 and size_in * size_out <= SMALL_KERNEL and gradient.shape[1] >= taps > 1:
        of_x = _as_lax(gradient, kernel[::-1].transpose(0, 2, 1), 1, mirrored)
    else:
        columns, of_columns = jax.vjp(lambda x: _columns(x, taps, stride, padding), x)
        (of_x,) = of_columns((flat @ _turned(kernel.reshape(-1, size_out))).reshape(columns.shape))
    if stride == 1 and size_in > size_out:
        # Repeat the narrower side for every tap.
        columns = _columns(gradient, taps, 1, mirrored).reshape(-1, taps * size_out)
        product = (x.reshape(-1, size_in).T @ columns).reshape(size_in, taps, size_out)
        of_kernel = product.transpose(1, 0, 2)[::-1]
    else:
        slices = _slices(x, taps, stride, padding)
        of_kernel = jnp.stack([part.reshape(-1, size_in).T @ flat for part in slices])
    return of_x, of_kernel


_with_gradient.defvjp(_forward, _backward)


def add_bias(y: Float[Array, "*batch out"], bias: Float[Array, " out"]) -> Array:
    """y + bias. On a TPU the gradient of the bias is a product with ones.

    There the matrix units sum a gradient up in a tenth of the time of a reduction over two axes.
    """
    bias = bias.reshape(*(1,) * (y.ndim - 1), -1)
    return _add_with_product(y, bias) if platform() == "tpu" else y + bias


@jax.custom_vjp
def _add_with_product(y: Array, bias: Array) -> Array:
    return y + bias


def _add_backward(_, gradient):
    ones = jnp.ones((8, *gradient.shape[:-1]), gradient.dtype)  # 8 rows are one tile
    axes = tuple(range(gradient.ndim - 1))
    contracted = tuple(axis + 1 for axis in axes), axes
    rows = jax.lax.dot_general(ones, gradient, (contracted, ((), ())))
    return gradient, rows[0].reshape(*(1,) * len(axes), -1)


_add_with_product.defvjp(lambda y, bias: (y + bias, None), _add_backward)


def _kernel_and_bias(module: nn.Module, taps: int, size_in: int, size_out: int, x: Array, dtype):
    kernel = module.param("kernel", nn.initializers.lecun_normal(), (taps, size_in, size_out))
    bias = module.param("bias", nn.initializers.zeros, (size_out,))
    dtype = dtype or x.dtype
    return x.astype(dtype), kernel.astype(dtype), bias.astype(dtype)


class Conv1d(nn.Module):
    """Convolution over time that keeps the length; `kernel_size` is odd."""

    features: int
    kernel_size: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch time in"]) -> Float[Array, "batch time out"]:
        x, kernel, bias = _kernel_and_bias(
            self, self.kernel_size, x.shape[-1], self.features, x, self.dtype
        )
        half = self.kernel_size // 2
        return add_bias(convolve(x, kernel, 1, (half, half)), bias)


class Downsample(nn.Module):
    """Convolution of kernel 3 and stride 2, with one zero on both sides ('SAME' pads only one)."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch time in"]) -> Float[Array, "batch half out"]:
        x, kernel, bias = _kernel_and_bias(self, 3, x.shape[-1], self.features, x, self.dtype)
        return add_bias(convolve(x, kernel, 2, (1, 1)), bias)


class Upsample(nn.Module):
    """Transposed convolution of kernel 4, stride 2 and padding 1: doubles the length.

    y[o] = Σ x[i] K[3 - k] over o = 2i - 1 + k, with K stored like the kernel of a convolution, that
    is, flipped relative to PyTorch's ConvTranspose1d. It is a convolution of the input with zeros
    inserted. A TPU multiplies by none of them. Elsewhere even and odd outputs are convolutions of
    two taps each.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch time in"]) -> Float[Array, "batch twice out"]:
        x, kernel, bias = _kernel_and_bias(self, 4, x.shape[-1], self.features, x, self.dtype)
        if platform() == "tpu" and convolution_form.value == "auto":
            return add_bias(_as_lax(x, kernel, 1, (2, 2), spacing=2), bias)
        even = convolve(x, kernel[0::2], 1, (1, 0))
        odd = convolve(x, kernel[1::2], 1, (0, 1))
        batch, time = x.shape[:2]
        twice = jnp.stack([even, odd], 2).reshape(batch, 2 * time, self.features)
        return add_bias(twice, bias)
