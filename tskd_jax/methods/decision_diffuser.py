"""Decision Diffuser (Ajay et al. 2022): generates a window of states anew at every step.

    dataset ─► diffuser over states, conditioned on the return ┐
            ─► f(s, s')                                        ┴► plan ─► first action, at each step

It has no student. It shares its code with TSKD's teacher; f is the very same stage.
"""

from tskd_jax.methods.base import Experiment, Method, Outcome, stage_keys
from tskd_jax.methods.parts.models import train_inverse_dynamics
from tskd_jax.teacher import state_generator, trajectory_generator
from tskd_jax.teacher.planner import PlanningActor
from tskd_jax.training import seeds


def train(exp: Experiment, own: state_generator.Config) -> Outcome:
    """Train one planner for each of `config.seeds`, each with its own generator."""
    inverse = train_inverse_dynamics(exp)
    model = exp.for_each_seed().stage(
        *(trajectory_generator.train, own.generator(), exp.recorded, None, None),
        name=f"student.{exp.name}",
    )
    keys = stage_keys("planning", exp.config.seeds)
    actors = [
        PlanningActor(
            seeds.of_seed(model, index),
            seeds.of_seed(inverse, index % len(exp.seeds)),
            keys[index],
            own.sampling(),
        )
        for index in range(len(keys))
    ]
    return Outcome(actors, [exp.recorded])


METHOD = Method(
    "Decision Diffuser",
    "plans states by a diffuser that is asked for a return, at every step in the simulator",
    train,
    state_generator.Config,
    needs_simulator=True,
    contradictions=state_generator.contradictions,
)
