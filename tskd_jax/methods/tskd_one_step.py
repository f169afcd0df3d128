"""TSKD, one step: what DDR-I would do next in the states that the filter keeps.

    dataset ─► p_i(s'|s), V(s), f(s, s'), DDR-II ─► stitch ─► best T ─► filter ─┐
                                                                                ├► BC student
    states that the filter keeps ─► DDR-I ─► one imagined step from each ───────┘

Not the paper's recipe: at small scales whole trajectories drift, one step does not
(docs/imagination.md). It has no return to be filtered by, so it joins the data behind the filter.
"""

from dataclasses import dataclass

from tskd_jax.data.selection import substitute
from tskd_jax.data.trajectories import concatenate
from tskd_jax.fields import ANY, COUNT, field, one_of
from tskd_jax.methods.base import Experiment, Method, Outcome
from tskd_jax.methods.parts.aggregating import distil_where_students_go
from tskd_jax.methods.parts.imagining import accept_likely, imagine_from_states
from tskd_jax.methods.parts.models import train_pricing, train_teacher
from tskd_jax.methods.parts.stitching import stitch_all
from tskd_jax.models import value


@dataclass(frozen=True)
class Config:
    """`config.tskd_one_step`."""

    start_states: str = field(
        "kept",
        one_of(["kept", "all"]),
        "recorded states to imagine from, none twice: of the trajectories that config.filter keeps "
        "(kept), or of all",
    )
    states: int = field(50_000, COUNT, "most states to imagine from")
    max_steps: int = field(1, COUNT, "most steps of an imagined trajectory")
    substitute: bool = field(
        False,
        ANY,
        "an imagined transition takes the place of the recorded ones from the same state in the "
        "student's data, instead of standing beside them",
    )


def train(exp: Experiment, own: Config) -> Outcome:
    """As TSKD, but for what is imagined and where it is added."""
    config, recorded = exp.config, exp.recorded

    data = [recorded] * len(exp.seeds)
    if config.stitching.enabled:
        pricing = train_pricing(exp)
        for epoch in range(config.stitching.epochs):
            values = exp.stage(value.train, config.value, data, name=f"value.{exp.name}.{epoch}")
            data = stitch_all(exp, data, values, pricing, epoch)
    data = exp.select(data)

    teacher = whole = imagined = None
    if config.imagination.enabled:
        teacher = train_teacher(exp)
        states = recorded if own.start_states == "all" else exp.select([recorded])[0]
        whole = imagine_from_states(exp, teacher, states, own.states, own.max_steps)
        imagined = accept_likely(exp, whole)
        join = substitute if own.substitute else lambda kept, new: concatenate([kept, new])
        data = [join(*both) for both in zip(data, imagined, strict=True)]
    policies, data = distil_where_students_go(exp, teacher, data)
    return Outcome(policies, data, whole, imagined, teacher)


METHOD = Method(
    "TSKD, one step",
    "one imagined step from each state that the filter keeps, added to what it keeps",
    train,
    Config,
    variants={
        "without_stitching": ("one step, without stitching", {"stitching.enabled": False}),
        "without_imagination": ("one step, without imagination", {"imagination.enabled": False}),
    },
)
