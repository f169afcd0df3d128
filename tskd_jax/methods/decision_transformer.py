"""Decision Transformer (Chen et al. 2021): `tskd_jax.models.decision_transformer`."""

from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.models import decision_transformer


def train(exp: Experiment, own: decision_transformer.Config) -> Outcome:
    """Train an actor for each of `config.seeds`; it has a memory: only the simulator judges it."""
    inputs = exp.recorded, exp.task, exp.config.seeds
    actors = exp.stage(decision_transformer.train, own, *inputs, name=f"student.{exp.name}")
    return Outcome(actors, [exp.recorded])


METHOD = Method(
    "Decision Transformer",
    "a causal transformer that imitates what came before a return, and is asked for a high one",
    train,
    decision_transformer.Config,
    needs_simulator=True,
)
