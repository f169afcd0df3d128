"""Data aggregation: students also imitate the teachers in states that the students visit."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories, concatenate
from tskd_jax.envs.tasks import Task
from tskd_jax.methods.base import Experiment, Teacher
from tskd_jax.methods.parts.choosing import choose_data
from tskd_jax.methods.parts.imagining import accept_likely, pooled
from tskd_jax.methods.parts.models import use_of_teacher
from tskd_jax.policy import Policy
from tskd_jax.teacher import aggregation, imagination, trajectory_generator
from tskd_jax.training.callbacks import TrainingCallbacks

Metrics = list[dict[str, Any]]


def distil_where_students_go(
    exp: Experiment, teachers: Sequence[Teacher], data: Sequence[Trajectories]
) -> tuple[list[Policy], list[Trajectories]]:
    """Distil students from `data` and from the teachers' steps in states that students visit.

    Each of `config.aggregation.rounds` rolls the students out, asks the teachers, adds their likely
    answers to the data and trains new students.

    Returns:
      (the policies; the data that the final ones imitate).
    """
    config, data = exp.config.aggregation, list(data)
    policies = exp.distil(data)
    for turn in range(config.rounds if teachers else 0):
        answers = []
        for index, teacher in enumerate(teachers):
            sampling = exp.config.teacher_sampling(index)
            use = use_of_teacher(index)
            answers.append(
                exp.stage(
                    *(ask_teacher, (config, exp.config.imagination, sampling), teacher),
                    *(policies, exp.task, exp.recorded.initial_observations, turn),
                    name=f"aggregation.{exp.name}.{turn}{use}",
                    use=use,
                )
            )
        answers = accept_likely(exp, pooled(answers))
        joined = [concatenate(list(both)) for both in zip(data, answers, strict=True)]
        choices = {"without the teacher's answers": data, "with them": joined}
        data = choose_data(exp, choices, f"{exp.name}.{turn}")
        policies = exp.distil(data, f"{exp.name}.{turn}")
    return policies, data


def ask_teacher(
    configs: tuple[aggregation.Config, imagination.Config, trajectory_generator.SamplingConfig],
    teacher: Teacher,
    policies: Sequence[Policy],
    task: Task,
    starts: np.ndarray,
    turn: int,
    *,
    keys: jax.Array,
    callbacks: TrainingCallbacks,
) -> tuple[list[Trajectories], Metrics]:
    """For each seed, one step of the teacher from each state that students visit in its world."""
    config, imagining, sampling = configs
    assert teacher.world is not None  # `checks.contradictions` makes sure of it
    keys = jax.vmap(lambda key: jax.random.fold_in(key, turn))(keys)
    visit_keys, imagine_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    states, metrics = aggregation.visited_states(
        config, teacher.world, policies, task, starts, visit_keys
    )
    answers = imagination.imagine(
        teacher.trajectory_generator,
        sampling,
        task,
        teacher.inverse_dynamics,
        states,
        imagine_keys,
        max_steps=1,
        chunk=imagining.chunk,
        world=teacher.world,
        random_member=imagining.world == "random_member",
        callbacks=callbacks,
    )
    return answers, metrics
