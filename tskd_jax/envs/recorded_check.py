"""Checks that a dataset is from its environment: against termination rule and simulator."""

from collections.abc import Callable

import numpy as np

from tskd_jax.data.normalizer import moments
from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.simulator import step_from
from tskd_jax.envs.tasks import Task
from tskd_jax.errors import DatasetError

MOST = 500  # transitions tried; they take about 0.2 s
FEWEST = 20  # fewer transitions are not conclusive
CLIPPED = 10.0  # some observations clip velocities here, so the exact state is unknown
# Relative to the error with the actions of other rows. Above it, the next state is unrelated to the
# recorded action. Data of the same environment are at 1e-6; data of another version of MuJoCo are
# far below UNRELATED.
UNRELATED = 0.3
NOT_EXACT = 1e-3  # in standard deviations of the states, and of the rewards
SEVERAL, FEW = 3, 0.01


def check_rule(task: Task, recorded: Trajectories, name: str, warn: Callable[[str], None]) -> None:
    """Warn if the terminal flags and the environment's termination rule disagree.

    Args:
      task: the task; nothing is checked if its rule is unknown.
      recorded: the dataset.
      name: name of the file, for messages.
      warn: called with each warning.
    """
    if not task.rule_known:
        return
    terminals = recorded.terminals
    ended = ~np.asarray(task.alive(recorded.next_observations))
    begins_ended = ~np.asarray(task.alive(recorded.observations))
    # A terminal row may repeat its own state as next state, if that was not recorded.
    has_next = (recorded.next_observations != recorded.observations).any(1)
    rule = f"{task.name}'s termination rule"
    for rows, among, problem in (
        (
            terminals & ~ended & has_next,
            terminals.sum(),
            f"terminals are not ends by {rule}; are time limits flagged as terminal? They belong "
            "into 'timeouts'",
        ),
        (
            ended & ~terminals,
            len(recorded.lengths),
            f"rows lead to a state that is an end by {rule}, and are not flagged as terminal",
        ),
        (begins_ended, len(recorded.lengths), f"rows begin in a state that is an end by {rule}"),
    ):
        if rows.sum() >= SEVERAL and rows.sum() > FEW * among:
            warn(f"{name}: {rows.sum()} {problem}, first transition {rows.argmax()}")


def check_dynamics(
    task: Task,
    recorded: Trajectories,
    name: str,
    count: int,
    warn: Callable[[str], None],
    seed: int = 0,
) -> None:
    """Replay recorded transitions in the simulator and compare the next states and rewards.

    Args:
      task: the environment; nothing is checked if its states cannot be set.
      recorded: the dataset.
      name: name of the file, for messages.
      count: maximum number of transitions; at most 500 are tried.
      warn: called with deviations that are not errors.
      seed: seed for drawing transitions.

    Raises:
      DatasetError: next states are unrelated to the recorded actions, or next states or rewards
        match only with the action or reward of a neighbouring row.
    """
    cut = task.position_size
    if not task.simulated or cut is None:
        return
    known = (np.abs(np.abs(recorded.observations[:, cut:]) - CLIPPED) > 1e-6).all(1)
    known &= (recorded.next_observations != recorded.observations).any(1)
    # The rows before and after must be of the same episode.
    known[recorded.starts] = known[recorded.ends] = False
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(known))[: min(count, MOST)]
    if len(rows) < FEWEST:
        return
    deviation = np.maximum(moments(recorded.observations)[1], 1e-6)

    def error(of_rows: np.ndarray) -> tuple[float, np.ndarray]:
        """The median error with the actions of `of_rows`, and the simulator's rewards."""
        following, rewards = step_from(task, recorded.observations[rows], recorded.actions[of_rows])
        off = (recorded.next_observations[rows] - following) / deviation
        return float(np.median(np.sqrt(np.mean(off**2, axis=1)))), rewards

    own, rewards = error(rows)
    if own > NOT_EXACT:
        others, _ = error(rng.permutation(rows))
        if own > UNRELATED * others:
            shift = next((s for s in (1, -1) if error(rows + s)[0] < 0.1 * own), None)
            if shift is not None:
                raise DatasetError(
                    f"{name}: the actions are one row {_late(shift)}: recorded transitions lead "
                    f"where the file says with the action of the {_neighbour(shift)} row, tried in "
                    f"{task.gymnasium_id}"
                )
            raise DatasetError(
                f"{name}: not data of {task.gymnasium_id}: recorded actions in recorded states do "
                f"not lead to the recorded next states, by {own:.2g} standard deviations (actions "
                f"of other rows: {others:.2g}); is it another environment, are states normalised, "
                "are columns out of step? Choose the config of its environment, or "
                "--config=own; --config.evaluation.simulator_check=0 takes it as it is"
            )
        warn(
            f"{name}: recorded transitions are {own:.2g} standard deviations off in "
            f"{task.gymnasium_id}; of another version of it or of MuJoCo? Scores are of this one"
        )
        return  # in another version, rewards would differ, too
    tolerance = NOT_EXACT * max(float(recorded.rewards.std()), 1e-6) + 1e-4

    def differ(of_rows: np.ndarray) -> float:
        return float((np.abs(recorded.rewards[of_rows] - rewards) > tolerance).mean())

    if differ(rows) > 0.5:
        shift = next((s for s in (1, -1) if differ(rows + s) < 0.05), None)
        if shift is not None:
            raise DatasetError(
                f"{name}: the rewards are one row {_late(shift)}: {task.gymnasium_id} gives them "
                f"for the transitions of the {_neighbour(-shift)} rows"
            )
        warn(
            f"{name}: rewards differ from {task.gymnasium_id}'s in {differ(rows):.0%} of "
            f"{len(rows)} rows; students learn from the file's, and are scored by the environment's"
        )


def _late(shift: int) -> str:
    return "late" if shift > 0 else "early"


def _neighbour(shift: int) -> str:
    return "next" if shift > 0 else "previous"
