"""Machine utilisation: operations of a function's matrix products, and the machine's peak rate."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def matmul_flops(function: Callable, *arguments: Any) -> int:
    """Count the floating-point operations of a function's matrix products and convolutions.

    The function is traced, not executed. A multiplication and an addition are two operations. The
    body of a `scan` counts as often as it runs, the body of a `while_loop` once, and a `cond` as
    its costliest branch. Products with padding count, those with zeros between the entries of a
    convolution's input do not; XLA's later optimisations are ignored.

    Args:
      function: takes arrays (or their shapes) and is not compiled with static arguments.
      *arguments: arguments of the function.
    """
    return flops_of(jax.make_jaxpr(function)(*arguments).jaxpr)


def flops_of(jaxpr: Any) -> int:
    """As `matmul_flops`, for a jaxpr."""
    return sum(_flops_of_equation(equation) for equation in jaxpr.eqns)


def _flops_of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name in ("dot_general", "conv_general_dilated"):
        return _flops_of_product(equation)
    inner = [flops_of(jaxpr) for value in params.values() for jaxpr in _jaxprs(value)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _flops_of_product(equation: Any) -> int:
    params = equation.params
    outputs = int(np.prod(equation.outvars[0].aval.shape, dtype=np.int64))
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2 * outputs * int(np.prod([shape[axis] for axis in contracted], dtype=np.int64))
    kernel = equation.invars[1].aval.shape
    out_channels = kernel[params["dimension_numbers"].rhs_spec[0]]
    inserted = int(np.prod(params["lhs_dilation"]))
    return 2 * outputs * int(np.prod(kernel, dtype=np.int64)) // out_channels // inserted


def _jaxprs(value: Any) -> list[Any]:
    values = value if isinstance(value, tuple | list) else (value,)
    unwrapped = [getattr(part, "jaxpr", part) for part in values]
    return [part for part in unwrapped if hasattr(part, "eqns")]


_multiply = jax.jit(jnp.matmul)


@functools.cache
def matmul_peak(dtype: str = "float32", seconds: float = 0.3) -> float:
    """Measure the peak rate of square matrix products of a dtype, in operations per second.

    The best of many products of several sizes, so that no share of the peak is overestimated.
    """
    return max(map(max, product_rates(seconds, dtype)))


def product_rates(seconds: float, dtype: str = "float32") -> list[list[float]]:
    """Measure square matrix products, one after another, for about `seconds`.

    Returns:
      For each of two sizes, the operations per second of each product; at least one.
    """
    sizes = (1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192)
    rates = []
    for size in sizes:
        x = jnp.ones((size, size), dtype)
        _multiply(x, x).block_until_ready()
        rates_of_size = []
        end = time.perf_counter() + seconds / len(sizes)
        while not rates_of_size or time.perf_counter() < end:
            begin = time.perf_counter()
            _multiply(x, x).block_until_ready()
            rates_of_size.append(2 * size**3 / (time.perf_counter() - begin))
        rates.append(rates_of_size)
    return rates
