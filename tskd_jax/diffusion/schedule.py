"""The noise schedule (section 3; cosine of Nichol & Dhariwal 2021, as in Decision Diffuser)."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclass(frozen=True, eq=False)
class Schedule:
    """q(x_k | x_0) = N(√ᾱ_k x_0, (1 - ᾱ_k) I) for k = 0 … K-1 (the paper's k = 1 … K).

    NumPy float64: the schedule is a constant of the compiled program, and 1 - ᾱ_k loses digits in
    float32 where the noise is small.

    Attributes:
      betas: (K,) variance of the noise that step k adds.
      alphas_bar: (K,) ᾱ_k = Π_{j≤k} (1 - β_j).
    """

    betas: np.ndarray
    alphas_bar: np.ndarray

    @property
    def steps(self) -> int:
        """K, the number of diffusion steps."""
        return len(self.betas)

    def scales(
        self, step: Int[Array, " batch"]
    ) -> tuple[Float[Array, "batch 1 1"], Float[Array, "batch 1 1"]]:
        """(√ᾱ_k, √(1 - ᾱ_k)) at these steps: the factors of x_0 and of the noise."""
        both = (self.alphas_bar**0.5, (1 - self.alphas_bar) ** 0.5)
        signal, noise = (jnp.asarray(scale, jnp.float32)[step][:, None, None] for scale in both)
        return signal, noise


def cosine_schedule(steps: int, offset: float = 0.008, largest_beta: float = 0.999) -> Schedule:
    """ᾱ(u) ∝ cos²((u + s)/(1 + s) · π/2), with betas clipped.

    Args:
      steps: K.
      offset: s, which keeps the first betas from being too small.
      largest_beta: the largest beta; larger ones are clipped to it.
    """
    u = np.linspace(0, 1, steps + 1)
    signal = np.cos((u + offset) / (1 + offset) * np.pi / 2) ** 2
    betas = np.clip(1 - signal[1:] / signal[:-1], 0, largest_beta)
    return Schedule(betas=betas, alphas_bar=np.cumprod(1 - betas))
