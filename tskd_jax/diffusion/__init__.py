"""Conditional diffusion over sequences: schedule, loss, samplers. Not specific to RL."""

from tskd_jax.diffusion.loss import diffusion_loss
from tskd_jax.diffusion.prediction import as_noise, as_signal
from tskd_jax.diffusion.sampler import Guide, Sampler, guided, sample, sample_path, unguided
from tskd_jax.diffusion.schedule import Schedule, cosine_schedule

__all__ = [
    "Guide",
    "Sampler",
    "Schedule",
    "as_noise",
    "as_signal",
    "cosine_schedule",
    "diffusion_loss",
    "guided",
    "sample",
    "sample_path",
    "unguided",
]
