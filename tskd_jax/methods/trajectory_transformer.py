"""Trajectory Transformer (Janner et al. 2021): `tskd_jax.models.trajectory_transformer`."""

from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.models import trajectory_transformer


def train(exp: Experiment, own: trajectory_transformer.Config) -> Outcome:
    """Train an actor for each of `config.seeds`; it plans: only the simulator judges it."""
    inputs = exp.recorded, exp.task, exp.config.seeds
    actors = exp.stage(trajectory_transformer.train, own, *inputs, name=f"student.{exp.name}")
    return Outcome(actors, [exp.recorded])


METHOD = Method(
    "Trajectory Transformer",
    "a causal transformer over tokens, searched for the plan of highest reward and value",
    train,
    trajectory_transformer.Config,
    needs_simulator=True,
)
