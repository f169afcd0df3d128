"""Datasets compared without a simulator: by what students of them are worth in the learned world.

Not in the paper. A filter that keeps a tenth is right for one dataset and wrong for the next, and
imagined trajectories help or do not; the returns of students, judged in the world, tell which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, POSITIVE_SHARE, Allowed, field, one_of
from tskd_jax.models import cloning, referee
from tskd_jax.models.referee import Verdict
from tskd_jax.models.world import World
from tskd_jax.policy import Policy
from tskd_jax.training.callbacks import TrainingCallbacks

SHARES = Allowed(
    "numbers, each 0 < x ≤ 1",
    lambda values: len(values) > 0 and all(0 < value <= 1 for value in values),
)


@dataclass(frozen=True)
class Config:
    """`config.selection`."""

    by: str = field(
        "none",
        one_of(["none", "referee"]),
        "referee: what students are worth in the learned world decides on the share that the "
        "filter keeps, and on whether what is imagined joins; none: as the other fields say",
    )
    shares: tuple[float, ...] = field(
        (0.001, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0), SHARES, "of filter.share, from which is chosen"
    )
    students: int = field(3, COUNT, "trained on each choice")
    length: float = field(0.25, POSITIVE_SHARE, "of their training, of student.steps")
    episodes: int = field(40, COUNT, "of each of them in the learned world")


def contest(
    config: Config,
    student: cloning.Config,
    datasets: Sequence[Trajectories],
    world: World,
    task: Task,
    starts: np.ndarray,
    key: jax.Array,
    callbacks: TrainingCallbacks | None = None,
) -> tuple[list[list[Policy]], Verdict]:
    """Short students of each dataset, side by side, and what one seed's world says of them.

    All start from the same weights, see the same rows by number, and are judged from the same
    states by the same members of the world: what differs is the data.

    Args:
      config: how many students, and for how long.
      student: of `cloning`.
      datasets: C choices.
      world: of one seed.
      task: its termination rule and episode limit.
      starts: (E, m) recorded initial states.
      key: of the starts and of the members that answer.
      callbacks: of the training.

    Returns:
      (the students of each choice; their verdict, (C · students, episodes), choice by choice).
    """
    numbers = tuple(range(config.students))
    each = [data for data in datasets for _ in numbers]
    short = replace(student, steps=max(1, round(config.length * student.steps)))
    policies, _ = cloning.train(
        short, each, task, numbers * len(datasets), callbacks=callbacks, name="contest"
    )
    of_choice = [policies[i : i + len(numbers)] for i in range(0, len(policies), len(numbers))]
    return of_choice, referee.judge_some(world, policies, task, starts, config.episodes, key)


def surely_best(scores: Sequence[np.ndarray], without: np.ndarray | None = None) -> int:
    """The number of the best choice that is better than the first beyond doubt, or 0.

    Args:
      scores: of each choice, (students, episodes).
      without: (members, choices) mean scores in worlds that lack one member each, for the world's
        own error; None: as if the world had none.

    Returns:
      Of the choices whose mean is above that of the first with 97.5% certainty (Welch's t-test over
      students, or over episodes where there is one student; with `without`, the jackknife's
      variance of the difference besides), the one with the largest mean.
    """
    best, (first, *others) = 0, [one.mean(1) if len(one) > 1 else one[0] for one in scores]
    for number, one in enumerate(others, 1):
        more = None if without is None else without[:, number] - without[:, 0]
        surely = welch_interval(one, first, more)[0] > 0
        if surely and scores[number].mean() > scores[best].mean():
            best = number
    return best


def welch_interval(
    ones: np.ndarray, twos: np.ndarray, left_out: np.ndarray | None = None
) -> tuple[float, float]:
    """Welch's 95% interval of how far the mean of some numbers is above that of others.

    Args:
      ones, twos: the numbers, at least two of each.
      left_out: (members,) the same difference, measured with one member of the instrument left out
        at a time: the jackknife's variance of it joins the two, with its degrees of freedom
        (Welch and Satterthwaite).

    `scipy.stats` takes a second to import, and is imported where it is used.
    """
    from scipy import stats

    parts = [(one.var(ddof=1) / len(one), len(one) - 1) for one in (ones, twos)]
    if left_out is not None:
        freedom = len(left_out) - 1
        parts.append((freedom * left_out.var(), freedom))
    variance = sum(part for part, _ in parts)
    mean = float(ones.mean() - twos.mean())
    if variance == 0:
        return mean, mean
    freedom = variance**2 / sum(part**2 / freedom for part, freedom in parts)
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(variance))
    return mean - half, mean + half
