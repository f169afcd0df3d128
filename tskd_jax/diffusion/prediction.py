"""What the network is asked for: the noise (the paper), or the velocity.

At the noisiest levels x̂_0 = (x - √(1 - ᾱ) ε̂) / √ᾱ amplifies an error of ε̂ without bound, and what
is known (the present state, the target return) tells more there than x does. The velocity
v = √ᾱ ε - √(1 - ᾱ) x_0 (Salimans & Ho 2022) is the noise where there is little of it and -x_0 where
there is nothing else, so the network learns x_0 from what is known as a regression would.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int

from tskd_jax.diffusion.schedule import Schedule

KINDS = ("noise", "velocity")
# (params, x, step, condition, keep_condition) -> noise or velocity
Network = Callable[[Any, Array, Array, Array, Array], Array]


def target(
    kind: str,
    schedule: Schedule,
    x0: Float[Array, "batch horizon dim"],
    noise: Float[Array, "batch horizon dim"],
    step: Int[Array, " batch"],
) -> Float[Array, "batch horizon dim"]:
    """What the network should answer."""
    if kind == "noise":
        return noise
    signal_scale, noise_scale = schedule.scales(step)
    return signal_scale * noise - noise_scale * x0


def as_noise(kind: str, schedule: Schedule, network: Network) -> Network:
    """The network as one that answers with the noise, for samplers and guidance."""
    if kind == "noise":
        return network

    def noise(params, x, step, condition, keep):
        signal_scale, noise_scale = schedule.scales(step)
        return signal_scale * network(params, x, step, condition, keep) + noise_scale * x

    return noise
