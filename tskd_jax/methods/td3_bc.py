"""TD3+BC (Fujimoto and Gu 2021), on the recorded transitions alone: `tskd_jax.models.td3_bc`."""

from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.models import td3_bc


def train(exp: Experiment, own: td3_bc.Config) -> Outcome:
    """Train one actor for each of `config.seeds`."""
    inputs = exp.recorded, exp.task, exp.config.seeds
    policies = exp.stage(td3_bc.train, own, *inputs, name=f"student.{exp.name}")
    return Outcome(policies, [exp.recorded])


METHOD = Method("TD3+BC", "TD3 whose actor is held near recorded actions", train, td3_bc.Config)
