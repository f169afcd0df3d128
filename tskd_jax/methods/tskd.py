"""TSKD (Figure 1, Algorithm 4).

    dataset ─► DDR-I ─► whole imagined trajectories ┐
            ─► DDR-II ─► rewards of stitches        ├► stitch ─► best T ─► filter ─► BC student
            ─► f(s, s') ─► actions of stitches      │      ▲        │
            ─► p_i(s'|s), V(s) ─► which are good ───┘      └────────┘ K epochs

DDR-I does not change between epochs, so what all of them add is imagined at once.
"""

from tskd_jax.methods.base import Experiment, Method, NoFields, Outcome, Teacher
from tskd_jax.methods.parts import (
    Pricing,
    accept,
    add_share,
    imagine_episodes,
    stitch_all,
    train_trajectory_generator,
)
from tskd_jax.models import dynamics, inverse_dynamics, value
from tskd_jax.teacher import reward_generator


def train(exp: Experiment, _own: NoFields) -> Outcome:
    """Algorithm 4, in the order of its lines."""
    config, recorded = exp.config, exp.recorded

    # All that is learned before stitching is learned of recorded transitions only.
    inverse = exp.stage(inverse_dynamics.train, config.inverse_dynamics, recorded, exp.task)
    ensemble = exp.stage(dynamics.train, config.dynamics, recorded)
    ddr1 = train_trajectory_generator(exp)
    ddr2 = exp.stage(
        reward_generator.train, config.reward_generator, config.reward_sampling, recorded
    )
    teacher, pricing = Teacher(ddr1, inverse), Pricing(ensemble, inverse, ddr2)

    whole = imagined = None
    if config.imagination.enabled:
        whole = imagine_episodes(exp, teacher)
        imagined = exp.stage(accept, config.imagination, whole, ensemble)

    data = [recorded] * len(exp.seeds)
    for epoch in range(config.stitching.epochs):
        if imagined:
            data = add_share(data, imagined, epoch, config.stitching.epochs)
        if config.stitching.enabled:
            values = exp.stage(value.train, config.value, data, name=f"value.{exp.name}.{epoch}")
            data = stitch_all(exp, data, values, pricing, epoch)

    data = exp.select(data)
    return Outcome(exp.distil(data), data, whole, imagined, teacher)


METHOD = Method(
    "TSKD",
    "whole imagined trajectories, stitched and filtered (the paper's Figure 1)",
    train,
    variants={
        "without_stitching": ("TSKD without stitching", {"stitching.enabled": False}),
        "without_imagination": ("TSKD without imagination", {"imagination.enabled": False}),
        "without_both": (
            "TSKD without both",
            {"stitching.enabled": False, "imagination.enabled": False},
        ),
    },
)
