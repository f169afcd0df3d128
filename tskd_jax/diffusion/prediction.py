"""What the network is asked for: the noise (the paper), the velocity, or the flow.

At the noisiest levels x̂_0 = (x - √(1 - ᾱ) ε̂) / √ᾱ amplifies an error of ε̂ without bound, and what
is known (the present state, the target return) tells more there than x does. The velocity
v = √ᾱ ε - √(1 - ᾱ) x_0 (Salimans & Ho 2022) is the noise where there is little of it and -x_0 where
there is nothing else, so the network learns x_0 from what is known as a regression would.

The flow u = ε - x_0 is the velocity of the straight way from x_0 to ε (flow matching, Lipman et al.
2023; rectified flow, Liu et al. 2023). The noisy states are the same but for their scale: with
t = √(1 - ᾱ) / (√ᾱ + √(1 - ᾱ)) the state x / (√ᾱ + √(1 - ᾱ)) is (1 - t) x_0 + t ε, which moves by u
as t grows. So it is one more quantity to predict, from the same x and k; x_0 is read out of it as
(x - √(1 - ᾱ) u) / (√ᾱ + √(1 - ᾱ)), which amplifies nothing.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int

from tskd_jax.diffusion.schedule import Schedule

KINDS = ("noise", "velocity", "flow")
# (params, x, step, condition, keep_condition) -> noise, velocity or flow
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
    if kind == "flow":
        return noise - x0
    signal_scale, noise_scale = schedule.scales(step)
    return signal_scale * noise - noise_scale * x0


def as_noise(kind: str, schedule: Schedule, network: Network) -> Network:
    """The network as one that answers with the noise, for samplers and guidance."""
    if kind == "noise":
        return network

    def noise(params, x, step, condition, keep):
        signal_scale, noise_scale = schedule.scales(step)
        answer = network(params, x, step, condition, keep)
        if kind == "flow":
            return (x + signal_scale * answer) / (signal_scale + noise_scale)
        return signal_scale * answer + noise_scale * x

    return noise


def as_signal(kind: str, schedule: Schedule, network: Network) -> Network:
    """The network as one that answers with x̂_0, which is divided by √ᾱ of the noise alone."""

    def signal(params, x, step, condition, keep):
        signal_scale, noise_scale = schedule.scales(step)
        answer = network(params, x, step, condition, keep)
        if kind == "noise":
            return (x - noise_scale * answer) / signal_scale
        if kind == "flow":
            return (x - noise_scale * answer) / (signal_scale + noise_scale)
        return signal_scale * x - noise_scale * answer

    return signal
