"""IQL (Kostrikov, Nair and Levine 2022) on the recorded transitions: `tskd_jax.models.iql`."""

from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.models import iql


def train(exp: Experiment, own: iql.Config) -> Outcome:
    """Train one actor for each of `config.seeds`."""
    inputs = exp.recorded, exp.task, exp.config.seeds
    policies = exp.stage(iql.train, own, *inputs, name=f"student.{exp.name}")
    return Outcome(policies, [exp.recorded])


METHOD = Method(
    "IQL", "implicit Q-learning: nothing is asked about actions that nobody took", train, iql.Config
)
