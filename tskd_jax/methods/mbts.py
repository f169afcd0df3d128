"""MBTS+BC (Algorithm 5; Hepburn and Montana 2023): stitches recorded trajectories only.

    dataset ─► p(a | s, s'), a CVAE   ─► actions of stitches  ┐
            ─► p(r | s, a, s'), a WGAN ─► rewards of stitches ├► stitch ─► all T ─► BC student
            ─► p_i(s'|s), V(s) ─► which are good ─────────────┘   └─ K epochs ─┘

Unlike TSKD, it imagines and filters nothing, and completes stitches with other models. It also
considers more candidate states: it first tests which are likely enough, then takes the best one.
"""

from dataclasses import dataclass, replace

from tskd_jax.fields import COUNT, field
from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.methods.parts.models import train_ensemble
from tskd_jax.methods.parts.pricing import GenerativePricing
from tskd_jax.methods.parts.stitching import stitch_all
from tskd_jax.models import cvae, value, wgan


@dataclass(frozen=True)
class Config:
    """`config.mbts`."""

    epochs: int = field(5, COUNT, "of stitching, instead of stitching.epochs (MBTS)")
    elites: int = field(5, COUNT, "of dynamics.members kept, instead of dynamics.elites (MBTS)")


def train(exp: Experiment, own: Config) -> Outcome:
    """Algorithm 5, in the order of its lines."""
    exp = _with_its_own_rules(exp, own)
    config, recorded = exp.config, exp.recorded
    pricing = GenerativePricing(
        train_ensemble(exp),
        exp.stage(cvae.train, config.cvae, recorded, exp.task),
        exp.stage(wgan.train, config.wgan, recorded, exp.task),
    )
    data = [recorded] * len(exp.seeds)
    for epoch in range(config.stitching.epochs):
        values = exp.stage(value.train, config.value, data, name=f"value.{exp.name}.{epoch}")
        data = stitch_all(exp, data, values, pricing, epoch)
    return Outcome(exp.distil(data), data)


def _with_its_own_rules(exp: Experiment, own: Config) -> Experiment:
    """Set MBTS's own stitching rules; radius, tolerance, acceptance and cycles are the config's."""
    config = exp.config
    rules = {"candidates": "both", "rule": "density_first", "epochs": own.epochs}
    rules |= {"max_disagreement_quantile": 0.0}  # of DDR-II, which MBTS does not have
    return exp.having(
        stitching=replace(config.stitching, **rules),
        dynamics=replace(config.dynamics, elites=own.elites),
    )


METHOD = Method(
    "MBTS+BC",
    "recorded trajectories, stitched (the paper's Algorithm 5)",
    train,
    Config,
)
