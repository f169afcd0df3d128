"""The quantity that the network predicts: noise (the paper), signal, velocity or flow.

At the noisiest levels x̂_0 = (x - √(1 - ᾱ) ε̂) / √ᾱ amplifies an error of ε̂ without bound. There
the known values (the present state, the target return) say more about x_0 than x does. The velocity
v = √ᾱ ε - √(1 - ᾱ) x_0 (Salimans & Ho 2022) tends to ε where there is little noise and to -x_0
where there is only noise. There the network learns x_0 from the known values, as a regression
would.

The flow u = ε - x_0 is the velocity of the straight path from x_0 to ε (flow matching, Lipman et
al. 2023; rectified flow, Liu et al. 2023). Its noisy states are the same up to a scale: with
t = √(1 - ᾱ) / (√ᾱ + √(1 - ᾱ)) the state x / (√ᾱ + √(1 - ᾱ)) is (1 - t) x_0 + t ε, whose derivative
in t is u. So u is one more quantity to predict from the same x and k. It gives x_0 as
(x - √(1 - ᾱ) u) / (√ᾱ + √(1 - ᾱ)), which amplifies no error.

The signal is x_0 itself, as Diffuser's code predicts it. Where there is little noise, an error of
x̂_0 is amplified in ε̂ = (x - √ᾱ x̂_0) / √(1 - ᾱ).
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float, Int

from tskd_jax.diffusion.schedule import Schedule

KINDS = ("noise", "signal", "velocity", "flow")
# (params, x (B, H, D), step (B,) or (1,), condition (E,), keep_condition (E,)) -> one of these,
# where row i of x has condition i mod E
Network = Callable[[Any, Array, Array, Array, Array], Array]


def target(
    kind: str,
    schedule: Schedule,
    x0: Float[Array, "batch horizon dim"],
    noise: Float[Array, "batch horizon dim"],
    step: Int[Array, " batch"],
) -> Float[Array, "batch horizon dim"]:
    """The target of the network."""
    if kind == "noise":
        return noise
    if kind == "signal":
        return x0
    if kind == "flow":
        return noise - x0
    signal_scale, noise_scale = schedule.scales(step)
    return signal_scale * noise - noise_scale * x0


def as_noise(kind: str, schedule: Schedule, network: Network) -> Network:
    """Wrap a network that predicts `kind` to return the noise, for samplers and guidance."""
    if kind == "noise":
        return network

    def noise(params, x, step, condition, keep):
        signal_scale, noise_scale = schedule.scales(step)
        answer = network(params, x, step, condition, keep)
        if kind == "signal":
            return (x - signal_scale * answer) / noise_scale
        if kind == "flow":
            return (x + signal_scale * answer) / (signal_scale + noise_scale)
        return signal_scale * answer + noise_scale * x

    return noise


def as_signal(kind: str, schedule: Schedule, network: Network) -> Network:
    """Wrap a network that predicts `kind` to return x̂_0. Only `noise` entails a division by √ᾱ."""
    if kind == "signal":
        return network

    def signal(params, x, step, condition, keep):
        signal_scale, noise_scale = schedule.scales(step)
        answer = network(params, x, step, condition, keep)
        if kind == "noise":
            return (x - noise_scale * answer) / signal_scale
        if kind == "flow":
            return (x - noise_scale * answer) / (signal_scale + noise_scale)
        return signal_scale * x - noise_scale * answer

    return signal
