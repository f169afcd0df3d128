"""CQL (Kumar et al. 2020), on the recorded transitions alone: `tskd_jax.models.cql`."""

from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.models import cql


def train(exp: Experiment, own: cql.Config) -> Outcome:
    """Train one actor for each of `config.seeds`."""
    inputs = exp.recorded, exp.task, exp.config.seeds
    policies = exp.stage(cql.train, own, *inputs, name=f"student.{exp.name}")
    return Outcome(policies, [exp.recorded])


METHOD = Method(
    "CQL", "soft actor-critic whose Q is pressed down where nobody acted", train, cql.Config
)
