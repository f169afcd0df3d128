"""TSKD (Figure 1, Algorithm 4).

    dataset ─► DDR-I ─► whole imagined trajectories ┐
            ─► DDR-II ─► rewards of stitches        ├► stitch ─► best T ─► filter ─► BC student
            ─► f(s, s') ─► actions of stitches      │      ▲        │
            ─► p_i(s'|s), V(s) ─► which are good ───┘      └────────┘ K epochs

DDR-I does not change between epochs, so the trajectories of all epochs are imagined at once.
"""

from tskd_jax.methods.base import EPISODE_STARTS, Experiment, Method, NoFields, Outcome
from tskd_jax.methods.parts.aggregating import distil_where_students_go
from tskd_jax.methods.parts.choosing import choose_data, choose_share
from tskd_jax.methods.parts.imagining import accept_likely, imagine_episodes
from tskd_jax.methods.parts.models import train_pricing
from tskd_jax.methods.parts.stitching import add_share, stitch_all
from tskd_jax.methods.parts.teachers import train_teachers
from tskd_jax.models import value


def train(exp: Experiment, _own: NoFields) -> Outcome:
    """Algorithm 4, in the order of its lines."""
    exp = choose_share(exp)
    config, recorded = exp.config, exp.recorded

    teachers, whole, imagined = [], None, None
    if config.imagination.enabled:
        teachers = train_teachers(exp, exp.task.episode_limit)
        whole = imagine_episodes(exp, teachers)
        imagined = accept_likely(exp, whole)

    pricing = train_pricing(exp) if config.stitching.enabled else None
    data = [recorded] * len(exp.seeds)
    for epoch in range(config.stitching.epochs):
        if imagined:
            data = add_share(data, imagined, epoch, config.stitching.epochs)
        if pricing:
            values = exp.stage(value.train, config.value, data, name=f"value.{exp.name}.{epoch}")
            data = stitch_all(exp, data, values, pricing, epoch)

    choices = {"recorded": exp.select([recorded]) * len(exp.seeds)}
    if imagined or pricing:
        choices["recorded, imagined and stitched"] = exp.select(data)
    data = choose_data(exp, choices)
    policies, data = distil_where_students_go(exp, teachers, data)
    return Outcome(policies, data, whole, imagined, teachers)


METHOD = Method(
    "TSKD",
    "whole imagined trajectories, stitched and filtered (the paper's Figure 1)",
    train,
    imagines_from=EPISODE_STARTS,
    variants={
        "without_stitching": ("TSKD without stitching", {"stitching.enabled": False}),
        "without_imagination": ("TSKD without imagination", {"imagination.enabled": False}),
        "without_referee": ("TSKD without referee", {"selection.by": "none"}),
        "without_both": (
            "TSKD without both",
            {"stitching.enabled": False, "imagination.enabled": False},
        ),
    },
)
