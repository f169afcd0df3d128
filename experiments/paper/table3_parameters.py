"""The paper's Table 3: how many parameters decide on an action, by method and environment.

    python -m experiments.paper.table3_parameters [--environments=hopper,halfcheetah,walker2d]
        [--scale=paper] [--name=NAME]

Networks are built as a run of that preset builds them, of shapes alone: nothing is trained, and no
dataset is needed. Of Decision Diffuser and of DDR-I the U-Net is counted, as in the paper; `f` are
the parameters of the inverse dynamics that reads an action off a plan. Prints a table, and writes
NAME.csv and NAME.md in --results.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import app, flags

from experiments.tables import show, write
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.config import Config, finalize, make_config
from tskd_jax.data.trajectories import Trajectories, from_columns
from tskd_jax.envs.entries import TASKS, get_task
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import ConfigError
from tskd_jax.fields import restrict
from tskd_jax.machine.signals import Request
from tskd_jax.methods import METHODS
from tskd_jax.models import (
    cloning,
    decision_transformer,
    inverse_dynamics,
    trajectory_transformer,
)
from tskd_jax.models.discretizer import fit_discretizer
from tskd_jax.nn.mlp import count_parameters
from tskd_jax.presets import PRESETS
from tskd_jax.report.published import parameters as published
from tskd_jax.teacher import diffuser, joint_diffuser, trajectory_generator
from tskd_jax.teacher.joint_config import ModelConfig

ENVIRONMENTS = flags.DEFINE_list("environments", ["hopper", "halfcheetah", "walker2d"], "Of ours.")
SCALE = flags.DEFINE_enum("scale", "paper", list(PRESETS), "Preset.")
NAME = flags.DEFINE_string("name", None, "Of the results; None: the scale.")
RESULTS = flags.DEFINE_string("results", "experiments/results/table3", "Folder.")

STEPS = 200  # of the only episode: more than any horizon


def main(_request: Request) -> int:
    """Count, print and write."""
    rows = []
    if unknown := [name for name in ENVIRONMENTS.value if name not in TASKS]:
        raise ConfigError(f"--environments={unknown[0]}: unknown; one of {', '.join(TASKS)}")
    for environment in ENVIRONMENTS.value:
        config, _options = finalize(make_config(environment, SCALE.value))
        for row in rows_of(environment, config, get_task(environment)):
            show(row)
            rows.append(row)
    path = write(rows, RESULTS.value, NAME.value or SCALE.value)
    path.with_name(f"{path.name}.md").write_text(markdown(rows))
    return 0


def rows_of(environment: str, config: Config, task: Task) -> list[dict[str, Any]]:
    """A row for each method that decides by networks of its own."""
    data = one_episode(task)
    plan = inverse_dynamics.training(config.inverse_dynamics, data, task, _KEYS)[0]
    reads_actions = _count(plan.init)
    counts: dict[str, tuple[int, int]] = {
        "decision_diffuser": (_unet(config.own["decision_diffuser"].generator(), data), 0),
        "decision_transformer": (_decision_transformer(config, data, task), 0),
        "trajectory_transformer": (_trajectory_transformer(config, data, task), 0),
        "diffuser": (_diffuser(config, data), 0),
        "teacher": (_unet(config.trajectory_generator, data), 0),
        "tskd": (_count(cloning.training(config.student, [data], task, (0,)).init), 0),
    }
    for name in ("decision_diffuser", "teacher"):
        counts[name] = counts[name][0], reads_actions
    return [
        {
            "environment": environment,
            "method": name,
            "title": "DDR-I (the teacher)" if name == "teacher" else METHODS[name].title,
            "parameters": count,
            "f": beside or "",
            "paper_millions": published(environment, name) or "",
        }
        for name, (count, beside) in counts.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table as in the paper: methods as columns, millions, the paper's own in brackets."""
    titles = {row["method"]: row["title"] for row in rows}
    lines = [f"| environment | {' | '.join(titles.values())} |", "|---" * (len(titles) + 1) + "|"]
    for environment in dict.fromkeys(row["environment"] for row in rows):
        cells = []
        for method in titles:
            (row,) = (r for r in rows if (r["environment"], r["method"]) == (environment, method))
            theirs = f" ({row['paper_millions']:.2f})" if row["paper_millions"] != "" else ""
            cells.append(f"{row['parameters'] / 1e6:.2f}{theirs}")
        lines.append(f"| {environment} | {' | '.join(cells)} |")
    return "\n".join(
        [*lines, "", "Millions of parameters; in brackets the paper's own figure.", ""]
    )


def one_episode(task: Task) -> Trajectories:
    """Data of the task's sizes, in which nothing happens."""
    return from_columns(
        observations=np.zeros((STEPS, task.state_size)),
        actions=np.zeros((STEPS, task.action_size)),
        rewards=np.zeros(STEPS),
        next_observations=np.zeros((STEPS, task.state_size)),
        terminals=np.zeros(STEPS, bool),
        lengths=[STEPS],
    )


_KEYS = jax.random.key(0)[None]


def _count(init: Callable[[jax.Array], Any]) -> int:
    return count_parameters(jax.eval_shape(init, jax.random.key(0)))


def _unet(config: trajectory_generator.Config, data: Trajectories) -> int:
    size = trajectory_generator.token_size(config, data.observations.shape[1])
    labels = np.ones((1, data.size), np.float32)
    model = diffuser.create(config, data, size, labels)
    return config.members * _count(model.init)


def _decision_transformer(config: Config, data: Trajectories, task: Task) -> int:
    section = config.own["decision_transformer"]
    return _count(decision_transformer.training(section, data, task, (0,)).init)


def _trajectory_transformer(config: Config, data: Trajectories, task: Task) -> int:
    section = config.own["trajectory_transformer"]
    bins = fit_discretizer("uniform", section.joined(data), section.bins)
    return _count(trajectory_transformer.training(section, data, bins, task, (0,)).init)


def _diffuser(config: Config, data: Trajectories) -> int:
    """The U-Net over states and actions; the value's is beside it, as in its authors' count."""
    section = restrict(config.own["diffuser"], ModelConfig)
    return _count(joint_diffuser.training(section, data, _KEYS)[0].init)


if __name__ == "__main__":
    app.run(lambda _argv: sys.exit(run_to_exit_status(main)), argv=sys.argv)
