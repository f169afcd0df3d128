"""Quantises weights to 8 bits, with a scale for each input and each output of a layer.

Activations and sums stay in single precision. Scales for outputs alone would be a little simpler,
but changed actions 20 times as much on HalfCheetah: a student's first layer includes the
normalisation of observations, so that the weights of its inputs differ greatly in size.
"""

import numpy as np

from tskd_jax.policy import Policy

LEVELS = 127  # on each side of 0


def levels_of(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(levels (in, out) int8, scales (in,), scales (out,)); their product is near the weights."""
    inputs = _positive(np.abs(weight).max(1))
    even = weight.astype(np.float64) / inputs[:, None]
    outputs = _positive(np.abs(even).max(0) / LEVELS)
    levels = np.round(even / outputs).clip(-LEVELS, LEVELS)
    return levels.astype(np.int8), inputs, outputs


def _positive(scales: np.ndarray) -> np.ndarray:
    """Scales in single precision, with 0 replaced by 1."""
    scales = scales.astype(np.float32)
    return np.where(scales > 0, scales, np.float32(1))


def quantised(policy: Policy) -> Policy:
    """The policy with its weights rounded to 8 bits and converted back."""
    parts = [levels_of(weight) for weight in policy.weights]
    weights = tuple(levels * outputs * inputs[:, None] for levels, inputs, outputs in parts)
    return Policy(weights, policy.biases, policy.bounds)
