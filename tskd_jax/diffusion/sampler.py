"""Samplers: from noise to a sequence, with guidance and known values (Algorithms 1 and 2).

Every sampler here is the same loop with its own coefficients,

    x ← a x + b x̂_0 + c x̂_0' + d z,        x̂_0 = clip((x - √(1 - ᾱ) ε̂) / √ᾱ),

where x̂_0' is the x̂_0 of the previous step and z is standard normal noise.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from tskd_jax.diffusion.prediction import Network
from tskd_jax.diffusion.schedule import Schedule

KINDS = ("ancestral", "ddim", "dpm++")
# (x (B, H, D), step (1,)) -> noise (B, H, D)
Denoiser = Callable[[Array, Array], Array]
# (mean of the next x (B, H, D); its step (1,), -1 after the last; variance () of the noise that is
# added to it at temperature 1) -> mean
Guide = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Sampler:
    """How to sample.

    Attributes:
      kind: `ancestral` (Ho et al. 2020, the paper), `ddim` (Song et al. 2021) or `dpm++`
        (DPM-Solver++ 2M, Lu et al. 2022).
      steps: number of network evaluations, at most K. Fewer are spread evenly over the K steps.
      start: share of the K steps at which sampling begins. The noisiest steps hold no signal. An
        error in ε̂ is amplified there (up to 4058 times for K = 200), and a sampler of few steps
        cannot correct it later. Below 1, sampling begins with noise at a level with some signal.
      eta: noise of `ddim`: 0 is deterministic, 1 has the ancestral sampler's noise.
      temperature: α of section 4.2, a factor on the standard deviation of x_K and of each step's
        noise. The paper applies α to the variance; for that, pass its square root.
    """

    kind: str = "ancestral"
    steps: int = 200
    eta: float = 0.0
    temperature: float = 0.5
    start: float = 1.0

    def warm(self, start: float) -> "Sampler":
        """The same sampler, starting at a lower noise level with the same distance between steps.

        Args:
          start: share of the K steps at which to start, above 0.
        """
        steps = max(1, round(self.steps * start / self.start))
        return dataclasses.replace(self, start=start, steps=steps)

    def step_indices(self, schedule: Schedule) -> np.ndarray:
        """(steps,) the diffusion steps k visited, falling from start · (K - 1) to 0."""
        if not 1 <= self.steps <= schedule.steps:
            raise ValueError(f"{self.steps} sampling steps; between 1 and {schedule.steps} exist")
        first = self.start * (schedule.steps - 1)
        return np.linspace(first, 0, self.steps).round().astype(np.int32)

    def coefficients(self, schedule: Schedule) -> np.ndarray:
        """(steps, 4) the coefficients a, b, c, d of each step; float64."""
        now = schedule.alphas_bar[self.step_indices(schedule)]
        then = np.append(now[1:], 1.0)  # after the last step there is no noise
        zero = np.zeros_like(now)
        if self.kind == "dpm++":
            with np.errstate(divide="ignore"):
                half_log_snr = np.log(np.append(now, 1.0)) / 2 - np.log(1 - np.append(now, 1.0)) / 2
            step = np.diff(half_log_snr)
            weight = -np.sqrt(then) * np.expm1(-step)
            # First order at both ends: the first step has no predecessor, and the last one goes to
            # zero noise, where the second-order term is undefined.
            second = zero.copy()
            second[1:-1] = step[1:-1] / step[:-2] / 2 if len(now) > 2 else 0
            a = np.sqrt((1 - then) / (1 - now))
            return np.stack([a, weight * (1 + second), -weight * second, zero], 1)
        if self.kind not in KINDS:
            raise ValueError(f"sampler {self.kind!r}; one of {KINDS}")
        eta = 1.0 if self.kind == "ancestral" else self.eta
        # With eta = 1 this is exactly the posterior q(x_{k-1} | x_k, x̂_0).
        deviation = eta * np.sqrt((1 - then) / (1 - now) * (1 - now / then))
        a = np.sqrt(np.maximum(1 - then - deviation**2, 0) / (1 - now))
        return np.stack([a, np.sqrt(then) - a * np.sqrt(now), zero, deviation], 1)


def guided(
    network: Network, params: Any, condition: Float[Array, " rows"], weight: float | int
) -> Denoiser:
    """Classifier-free guidance, ε_∅ + w (ε_y - ε_∅) (Equation 5).

    Makes one network call on a batch of 2B, or of B if w is 0 or 1. The two copies of a row are
    adjacent, so none has to move where rows are spread over devices.

    Args:
      network: ε.
      params: of the network.
      condition: (B,) y, or (1,) if it is the same for all rows.
      weight: w.
    """
    ones = jnp.ones_like(condition)
    if weight in (0, 1):
        return lambda x, step: network(params, x, step, condition, ones * weight)

    def denoise(x, step):
        xx, y = (jnp.repeat(a, 2, 0) for a in (x, condition))
        keep = jnp.stack([ones, 0 * ones], 1).reshape(-1)
        both = network(params, xx, step, y, keep).reshape(len(x), 2, *x.shape[1:])
        conditional, unconditional = both[:, 0], both[:, 1]
        return unconditional + weight * (conditional - unconditional)

    return denoise


def unguided(mean: Array, _step: Array, _variance: Array) -> Array:
    """The guide that leaves every mean unchanged."""
    return mean


def sample(
    denoise: Denoiser,
    schedule: Schedule,
    sampler: Sampler,
    *,
    known: Bool[Array, "batch horizon dim"],
    known_values: Float[Array, "batch horizon dim"],
    low: Float[Array, "*where dim"],
    high: Float[Array, "*where dim"],
    keys: Key[Array, " batch"],
    earlier: Float[Array, "batch horizon dim"] | None = None,
    guide: Guide = unguided,
) -> Float[Array, "batch horizon dim"]:
    """Sample x_0 for a batch of sequences.

    The known values are written into x before every network call and into the result (Algorithm 1
    line 8, Algorithm 2 line 4); they are never written into the predicted noise.

    Args:
      denoise: ε̂(x, k), e.g. from `guided`.
      schedule: the noise schedule of the training.
      sampler: how to sample.
      known: mask of the entries whose values are known (inpainting).
      known_values: their values.
      low, high: (dim,) or (batch, horizon, dim); x̂_0 is clipped to this range at every step,
        because at k = K - 1 an error in ε̂ is amplified (4058 times for K = 200).
      keys: (batch,), one per sequence, so its noise does not depend on the rest of the batch.
      earlier: a guess of x_0. Sampling starts from it, noised to the first level visited, instead
        of from noise alone: an approximation that pays off with `Sampler.warm`.
      guide: changes the mean of each next x before noise is added; by default it does not.
    """
    return _run(
        *(denoise, schedule, sampler, known, known_values, low, high, keys),
        *(earlier, guide, False),
    )[0]


def sample_path(
    denoise: Denoiser,
    schedule: Schedule,
    sampler: Sampler,
    *,
    known: Bool[Array, "batch horizon dim"],
    known_values: Float[Array, "batch horizon dim"],
    low: Float[Array, "*where dim"],
    high: Float[Array, "*where dim"],
    keys: Key[Array, " batch"],
) -> Float[Array, "steps_and_one batch horizon dim"]:
    """The whole path of `sample`: x at every level visited, then x_0.

    Arguments as for `sample`.
    """
    x0, path = _run(
        *(denoise, schedule, sampler, known, known_values, low, high, keys),
        *(None, unguided, True),
    )
    return jnp.concatenate([path, x0[None]])


def _run(denoise, schedule, sampler, known, known_values, low, high, keys, earlier, guide, keep):
    """(x_0; x at every level visited, (steps, batch, horizon, dim), or None without `keep`)."""
    shape = known_values.shape
    if low.ndim == 1:
        low, high = low[None, None], high[None, None]
    steps = sampler.step_indices(schedule)
    alphas_bar = schedule.alphas_bar[steps]
    coefficients = sampler.coefficients(schedule)
    variances = np.square(coefficients[:, 3]).astype(np.float32)
    coefficients[:, 3] *= sampler.temperature
    noisy = bool(coefficients[:, 3].any())
    table = np.concatenate([coefficients, np.sqrt([alphas_bar, 1 - alphas_bar]).T], 1)

    def noise_of(index):
        draw = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, index), shape[1:]))
        return draw(keys)

    def body(carry, inputs):
        x, previous = carry
        visited = x if keep else None
        (a, b, c, d, signal, noise), index, step, next_step, variance = inputs
        epsilon = denoise(x, step[None])
        x0 = jnp.clip((x - noise * epsilon) / signal, low, high)
        x = guide(a * x + b * x0 + c * previous, next_step[None], variance)
        if noisy:
            x = x + d * noise_of(index)
        return (jnp.where(known, known_values, x), x0), visited

    x = sampler.temperature * noise_of(0)
    if earlier is not None:
        x = table[0, 4] * earlier + table[0, 5] * x
    x = jnp.where(known, known_values, x)
    coefficient_rows = tuple(jnp.asarray(table.T, jnp.float32))
    next_steps = np.append(steps[1:], np.int32(-1))
    inputs = (
        *(coefficient_rows, jnp.arange(1, len(steps) + 1)),
        *map(jnp.asarray, (steps, next_steps, variances)),
    )
    (x, _), path = jax.lax.scan(body, (x, jnp.zeros(shape)), inputs)
    return x, path
