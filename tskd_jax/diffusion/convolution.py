"""Convolutions over time, in two forms with one parameter layout.

XLA's CPU backend is fast at `lax.conv` (a little faster than at the same convolution written as one
matrix product over shifted slices), but for its gradient, which inside `lax.scan` is ten times
slower, and for inputs shorter than the kernel, which are slower still. So on a CPU the matrix
product is used wherever a gradient is taken or the input is short, and `lax.conv` elsewhere, that
is in sampling. On accelerators it is always `lax.conv`.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FORMS = ("auto", "matmul", "lax")
_form = "auto"


def set_convolution_form(form: str) -> None:
    """Choose the form of every convolution traced from now on; `auto` decides by backend."""
    global _form
    if form not in FORMS:
        raise ValueError(f"convolution form {form!r}; one of {FORMS}")
    _form = form


def convolve(
    x: Float[Array, "batch time in"],
    kernel: Float[Array, "tap in out"],
    stride: int,
    padding: tuple[int, int],
) -> Float[Array, "batch out_time out"]:
    """Cross-correlation along time, as PyTorch's Conv1d defines it."""
    if _form == "matmul":
        return _as_matmul(x, kernel, stride, padding)
    if _form == "lax" or jax.default_backend() != "cpu":
        return _as_lax(x, kernel, stride, padding)
    return _on_cpu(x, kernel, stride, padding)


def _as_lax(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,), (padding,), dimension_numbers=("NWC", "WIO", "NWC")
    )


def _as_matmul(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    taps, size_in, size_out = kernel.shape
    if taps == 1 and stride == 1 and padding == (0, 0):
        return x @ kernel[0]
    columns = _columns(x, taps, stride, padding)
    flat = columns.reshape(-1, taps * size_in) @ kernel.reshape(taps * size_in, size_out)
    return flat.reshape(*columns.shape[:2], size_out)


def _columns(x: Array, taps: int, stride: int, padding: tuple[int, int]) -> Array:
    """(batch, out_time, taps · in): what the taps meet."""
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    out_time = (x.shape[1] - taps) // stride + 1
    ends = [tap + (out_time - 1) * stride + 1 for tap in range(taps)]
    return jnp.concatenate([x[:, tap : ends[tap] : stride] for tap in range(taps)], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _on_cpu(x: Array, kernel: Array, stride: int, padding: tuple[int, int]) -> Array:
    """What runs where no gradient is taken."""
    form = _as_lax if x.shape[1] >= kernel.shape[0] > 1 else _as_matmul
    return form(x, kernel, stride, padding)


def _forward(x, kernel, stride, padding):
    columns, of_columns = jax.vjp(lambda x: _columns(x, len(kernel), stride, padding), x)
    batch, out_time, size = columns.shape
    columns = columns.reshape(-1, size)
    flat = columns @ kernel.reshape(size, -1)
    return flat.reshape(batch, out_time, -1), (columns, of_columns, kernel)


def _backward(_stride, _padding, saved, gradient):
    columns, of_columns, kernel = saved
    flat = gradient.reshape(-1, gradient.shape[-1])
    # Left to itself, XLA multiplies by the kernel as it lies, which is twice as slow.
    turned = jax.lax.optimization_barrier(kernel.reshape(-1, kernel.shape[-1]).T)
    (of_x,) = of_columns((flat @ turned).reshape(*gradient.shape[:2], -1))
    return of_x, (columns.T @ flat).reshape(kernel.shape)


_on_cpu.defvjp(_forward, _backward)


def _kernel_and_bias(module: nn.Module, taps: int, size_in: int, size_out: int, x: Array, dtype):
    kernel = module.param("kernel", nn.initializers.lecun_normal(), (taps, size_in, size_out))
    bias = module.param("bias", nn.initializers.zeros, (size_out,))
    dtype = dtype or x.dtype
    return x.astype(dtype), kernel.astype(dtype), bias.astype(dtype)[None, None]


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
        return convolve(x, kernel, 1, (half, half)) + bias


class Downsample(nn.Module):
    """Convolution of kernel 3 and stride 2, one zero on both sides ('SAME' would pad one side)."""

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch time in"]) -> Float[Array, "batch half out"]:
        x, kernel, bias = _kernel_and_bias(self, 3, x.shape[-1], self.features, x, self.dtype)
        return convolve(x, kernel, 2, (1, 1)) + bias


class Upsample(nn.Module):
    """Transposed convolution of kernel 4, stride 2 and padding 1: doubles the length.

    y[o] = Σ x[i] K[3 - k] over o = 2i - 1 + k, with K stored as a convolution's kernel would be,
    that is flipped against PyTorch's ConvTranspose1d. Even and odd outputs are convolutions of two
    taps each, so no product with an inserted zero is computed.
    """

    features: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch time in"]) -> Float[Array, "batch twice out"]:
        x, kernel, bias = _kernel_and_bias(self, 4, x.shape[-1], self.features, x, self.dtype)
        even = convolve(x, kernel[0::2], 1, (1, 0))
        odd = convolve(x, kernel[1::2], 1, (0, 1))
        batch, time = x.shape[:2]
        return jnp.stack([even, odd], 2).reshape(batch, 2 * time, self.features) + bias
