"""The loss of a conditional diffuser with known entries (Equation 6)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from tskd_jax.diffusion.prediction import Network, target
from tskd_jax.diffusion.schedule import Schedule


def diffusion_loss(
    network: Network,
    params: Any,
    schedule: Schedule,
    x0: Float[Array, "batch horizon dim"],
    condition: Float[Array, " batch"],
    *,
    known: Bool[Array, "batch horizon dim"],
    known_values: Float[Array, "batch horizon dim"],
    weight: Float[Array, "batch horizon dim"],
    drop_condition: float,
    key: PRNGKeyArray,
    prediction: str = "noise",
) -> Float[Array, ""]:
    """Weighted mean squared error of the predicted quantity (ε, v or u), over the unknown entries.

    Args:
      network: (params, x, k, y, keep) -> the predicted quantity.
      params: the parameters of the network.
      schedule: the noise schedule.
      x0: clean sequences.
      condition: y, the normalised return.
      known: mask of the entries that the sampler will know (inpainting). The network sees them as
        `known_values`, and they carry no loss.
      known_values: the values of the known entries, e.g. the clean history, or a blurred one.
      weight: ≥ 0, weight of each entry's error; 0 for entries that do not exist. Only the ratio of
        a weight to the mean over the batch matters.
      drop_condition: probability, per sample, of training ε(x, ∅, k) instead of ε(x, y, k).
      key: randomness.
      prediction: what the network predicts, one of `prediction.KINDS`.
    """
    step_key, noise_key, drop_key = jax.random.split(key, 3)
    batch = x0.shape[0]
    step = jax.random.randint(step_key, (batch,), 0, schedule.steps)
    noise = jax.random.normal(noise_key, x0.shape)
    signal_scale, noise_scale = schedule.scales(step)
    x = jnp.where(known, known_values, signal_scale * x0 + noise_scale * noise)
    keep = jax.random.bernoulli(drop_key, 1 - drop_condition, (batch,)).astype(x.dtype)
    answer = network(params, x, step, condition, keep)
    error = jnp.square(answer - target(prediction, schedule, x0, noise, step))
    weight = jnp.where(known, 0.0, weight)
    return (weight * error).sum() / jnp.maximum(weight.sum(), 1e-8)
