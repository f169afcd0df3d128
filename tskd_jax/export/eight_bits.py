"""Weights of 8 bits, with a scale for each input and each output of a layer.

Activations and sums stay single precision. Outputs' scales alone would be a little simpler, and
changed actions 20 times as much on HalfCheetah: a student's first layer holds the normalisation, so
that the columns of its inputs are of very different size.
"""

import numpy as np

from tskd_jax.policy import Policy

LEVELS = 127  # of 8 bits, on each side of 0


def levels_of(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(levels (in, out) int8, scales (in,), scales (out,)): their product is near the weights."""
    inputs = _positive(np.abs(weight).max(1))
    even = weight.astype(np.float64) / inputs[:, None]
    outputs = _positive(np.abs(even).max(0) / LEVELS)
    levels = np.round(even / outputs).clip(-LEVELS, LEVELS)
    return levels.astype(np.int8), inputs, outputs


def _positive(scales: np.ndarray) -> np.ndarray:
    """Single precision, 1 in place of 0."""
    scales = scales.astype(np.float32)
    return np.where(scales > 0, scales, np.float32(1))


def quantised(policy: Policy) -> Policy:
    """The policy whose weights are what 8 bits hold of them."""
    parts = [levels_of(weight) for weight in policy.weights]
    weights = tuple(levels * outputs * inputs[:, None] for levels, inputs, outputs in parts)
    return Policy(weights, policy.biases, policy.bounds)
