"""ReBRAC (Tarasov et al. 2023) on the recorded transitions: `tskd_jax.models.rebrac`."""

from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.models import rebrac


def train(exp: Experiment, own: rebrac.Config) -> Outcome:
    """Train one actor for each of `config.seeds`."""
    inputs = exp.recorded, exp.task, exp.config.seeds
    policies = exp.stage(rebrac.train, own, *inputs, name=f"student.{exp.name}")
    return Outcome(policies, [exp.recorded])


METHOD = Method(
    "ReBRAC", "TD3+BC with imitation in its targets, and larger networks", train, rebrac.Config
)
