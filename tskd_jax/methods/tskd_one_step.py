"""TSKD, one step: adds what DDR-I would do next in the states that the filter keeps.

    dataset ─► filter ─► states ─► DDR-I ─► one imagined step from each ─┐
                    └───────────────────────────────────────────────────┴► BC student

Not the paper's recipe: at small scales whole trajectories drift, single steps do not
(docs/imagination.md). A single step has no return to filter by, so it joins the data after the
filter. Nothing is stitched: stitches, too, can only be judged by returns of whole trajectories.
"""

from dataclasses import dataclass

from tskd_jax.data.selection import substitute
from tskd_jax.data.trajectories import concatenate
from tskd_jax.fields import ANY, COUNT, field, one_of
from tskd_jax.methods.base import RECORDED_STATES, Experiment, Method, Outcome
from tskd_jax.methods.parts.aggregating import distil_where_students_go
from tskd_jax.methods.parts.choosing import choose_data, choose_share
from tskd_jax.methods.parts.imagining import accept_likely, imagine_from_states
from tskd_jax.methods.parts.teachers import train_teachers


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
    """Like TSKD, except for what is imagined and where it joins the data."""
    exp = choose_share(exp)
    kept = exp.select([exp.recorded]) * len(exp.seeds)
    if not exp.config.imagination.enabled:
        return Outcome(exp.distil(kept), kept)

    teachers = train_teachers(exp, own.max_steps)
    states = exp.recorded if own.start_states == "all" else kept[0]
    whole = imagine_from_states(exp, teachers, states, own.states, own.max_steps)
    imagined = accept_likely(exp, whole)
    join = substitute if own.substitute else lambda old, new: concatenate([old, new])
    joined = [join(*both) for both in zip(kept, imagined, strict=True)]
    data = choose_data(exp, {"recorded": kept, "recorded and imagined": joined})
    policies, data = distil_where_students_go(exp, teachers, data)
    return Outcome(policies, data, whole, imagined, teachers)


METHOD = Method(
    "TSKD, one step",
    "one imagined step from each state that the filter keeps, added to what it keeps",
    train,
    Config,
    imagines_from=RECORDED_STATES,
    variants={
        "without_imagination": ("one step, without imagination", {"imagination.enabled": False}),
        "without_referee": ("one step, without referee", {"selection.by": "none"}),
    },
)
