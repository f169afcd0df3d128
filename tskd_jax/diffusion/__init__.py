"""Conditional diffusion over sequences: network, schedule, loss, samplers. Knows nothing of RL."""

from tskd_jax.diffusion.loss import diffusion_loss
from tskd_jax.diffusion.prediction import as_noise
from tskd_jax.diffusion.sampler import Sampler, guided, sample
from tskd_jax.diffusion.schedule import Schedule, cosine_schedule
from tskd_jax.nn.torch_import import load_decision_diffuser
from tskd_jax.nn.unet import TemporalUNet

__all__ = [
    "Sampler",
    "Schedule",
    "TemporalUNet",
    "as_noise",
    "cosine_schedule",
    "diffusion_loss",
    "guided",
    "load_decision_diffuser",
    "sample",
]
