"""A run in which nothing is computed: what each stage would be made of."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tskd_jax.config import Config, override
from tskd_jax.data.trajectories import IMAGINED, STITCHED, Trajectories
from tskd_jax.envs.entries import get_task
from tskd_jax.methods import METHODS, Experiment, Outcome
from tskd_jax.methods.base import stage_name
from tskd_jax.policy import Bounds, Policy
from tskd_jax.run.serialization import fingerprint


class TracedRun:
    """Stands for a `Run`: a stage's result is something that differs where its arguments do.

    Attributes:
      keys: name of a stage -> the fingerprint of what it is made of, in order.
      configs: name of a stage -> the first argument.
    """

    CHOSEN = -1  # which of several choices of data the referee takes
    CONFIRMED = 1  # which of the two shares, 0.1 and 0.5

    def __init__(self, recorded: Trajectories):
        self.recorded = recorded
        self.keys: dict[str, str] = {}
        self.configs: dict[str, Any] = {}
        self.lines: list[str] = []

    def stage(
        self, name: str, function: Callable, config: Any, *inputs: Any, keys: Any, seeds: Any
    ) -> Any:
        what = (f"{function.__module__}:{function.__qualname__}", config, inputs, keys)
        key = fingerprint(what)
        self.keys[name] = key
        self.configs[name] = config
        # A number that stands for the result, in every transition that comes of it.
        mark = np.float32(int(key[:6], 16) / 2**24)
        made = {
            "imagine": IMAGINED,
            "ask_teacher": IMAGINED,
            "accept": IMAGINED,
            "stitching": STITCHED,
        }
        if (own := stage_name(function)) in made:
            data = self.recorded.replace(
                actions=np.full_like(self.recorded.actions, mark),
                source=np.full_like(self.recorded.source, made[own]),
            )
            return [data for _ in seeds]
        if own == "best_share":
            return 0.5
        if own == "confirmed_share":
            return self.CONFIRMED
        if own == "best_data":
            return [self.CHOSEN % len(inputs[0]) for _ in seeds]
        if own == "best_teacher":
            return inputs[1][0]  # of the planners
        if own == "cloning":
            return [
                Policy(
                    (np.full((3, 2), mark),), (np.zeros(2, np.float32),), Bounds.symmetric(1.0, 2)
                )
            ]
        return f"the {own} of {key}"

    def report(self, line: str) -> None:
        self.lines.append(line)


def trace(
    name: str, config: Config, recorded: Trajectories, changes: dict[str, Any] | None = None
) -> tuple[TracedRun, Outcome]:
    """What a method would do with some fields of a config changed."""
    config = override(config, changes or {})
    run = TracedRun(recorded)
    task = get_task(config.environment.name)
    exp = Experiment(name, config, task, recorded, run)
    method = METHODS[name]
    return run, method.train(exp, config.own.get(name, method.fields()))
