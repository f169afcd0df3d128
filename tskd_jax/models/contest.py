"""Compares datasets without a simulator, by the scores of their students in the learned world.

Not in the paper. A filter that keeps a tenth is right for one dataset and wrong for the next, and
imagined trajectories may help or not. The returns of students in the learned world tell.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tskd_jax.data.trajectories import Trajectories
from tskd_jax.envs.tasks import Task
from tskd_jax.fields import COUNT, POSITIVE_SHARE, Allowed, field, one_of
from tskd_jax.models import cloning
from tskd_jax.models.referee import Verdict
from tskd_jax.policy import Policy
from tskd_jax.training.callbacks import TrainingCallbacks

SHARES = Allowed(
    "different numbers, each 0.001 ≤ x ≤ 1",
    lambda values: (
        len(values) > 0
        and all(0.001 <= value <= 1 for value in values)
        and len({f"{value:g}" for value in values}) == len(values)  # their names in a run
    ),
)


@dataclass(frozen=True)
class Config:
    """`config.selection`."""

    by: str = field(
        "none",
        one_of(["none", "referee"]),
        "referee: what students are worth in the learned world decides on the share that the "
        "filter keeps (of several `shares`, unless filter.rule=none), and on whether what is "
        "imagined joins; none: as the other fields say",
    )
    shares: tuple[float, ...] = field(
        (0.001, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0), SHARES, "of filter.share, from which is chosen"
    )
    students: int = field(5, COUNT, "trained on each choice")
    length: float = field(0.25, POSITIVE_SHARE, "of their training, of student.steps")
    episodes: int = field(40, COUNT, "of each of them in the learned world")


def short_students(
    config: Config,
    student: cloning.Config,
    datasets: Sequence[Trajectories],
    task: Task,
    callbacks: TrainingCallbacks | None = None,
) -> list[list[Policy]]:
    """Briefly train students of each dataset, side by side.

    Student i of every dataset starts from the same weights and draws its batches with the same
    random keys: only the data differs.

    Args:
      config: how many students to train, and for how long.
      student: the config of `cloning`.
      datasets: C choices.
      task: gives the action bounds.
      callbacks: of the training.

    Returns:
      The students of each choice.
    """
    short, each, numbers = entries(config, student, datasets)
    policies, _ = cloning.train(short, each, task, numbers, callbacks=callbacks, name="contest")
    count = config.students
    return [policies[i : i + count] for i in range(0, len(policies), count)]


def entries(
    config: Config, student: cloning.Config, datasets: Sequence[Trajectories]
) -> tuple[cloning.Config, list[Trajectories], tuple[int, ...]]:
    """(the config of `cloning` for short students; the data and the seed of each)."""
    numbers = tuple(range(config.students))
    each = [data for data in datasets for _ in numbers]
    short = replace(student, steps=max(1, round(config.length * student.steps)))
    return short, each, numbers * len(datasets)


def cautious_returns(verdicts: Sequence[Verdict], task: Task) -> list[np.ndarray]:
    """The returns of each choice's episodes, where none gains by leaving what the world knows.

    Such an episode has no reward behind its end. That is little if steps are rewarded. If they cost
    reward, it is more than any episode that goes on can have. So the episode counts as though it
    went on to the episode limit with the lowest mean reward of all episodes, if that is negative.

    Args:
      verdicts: of each choice, on (students, episodes).
      task: gives the episode limit.
    """
    rate = min(lowest_rate(one.returns, one.lengths) for one in verdicts)
    return [charged(one, rate, task) for one in verdicts]


def lowest_rate(returns: np.ndarray, lengths: np.ndarray) -> float:
    """The lowest mean reward of a step over whole episodes, at most 0."""
    return min(0.0, float((returns / np.maximum(lengths, 1)).min()))


def charged(verdict: Verdict, rate: float, task: Task) -> np.ndarray:
    """(students, episodes) returns; one that left gets `rate` for each step up to the limit."""
    missing = np.where(verdict.left, task.episode_limit - verdict.lengths, 0)
    return verdict.returns + rate * missing


def largest_of_the_best(scores: Sequence[np.ndarray]) -> int:
    """The index of the last choice whose mean is within one standard error of the best one's.

    This is the one-standard-error rule (Breiman et al. 1984): of the choices that cannot be told
    apart, take the simplest. Here that is the choice that keeps the most data.

    Args:
      scores: of each choice, (students, episodes); choices are ordered by how much data they keep,
        least first. The error is the best choice's, over students.
    """
    means = [one.mean() for one in scores]
    best = scores[int(np.argmax(means))].mean(1)
    error = best.std(ddof=1) / np.sqrt(len(best)) if len(best) > 1 else 0.0
    return max(number for number, mean in enumerate(means) if mean >= max(means) - error)


def surely_best(scores: Sequence[np.ndarray], left: Sequence[np.ndarray]) -> int:
    """The index of the best choice that is significantly and safely better than the first, or 0.

    The world shows failures more rarely than they happen, so that a mean over many episodes hides
    them. So the worst episodes must not be worse, however much better the others are.

    An episode that leaves what the world knows ends there because the world cannot continue it, not
    because the student failed. For the first choice, such an episode counts as the mean of the same
    student's other episodes, so that the choice is not replaced because of unknown outcomes. For
    the others, it counts with the score that it ended with.

    Args:
      scores: of each choice, (students, episodes), of `cautious_returns`.
      left: of each choice, (students, episodes), whether an episode left what the world knows.

    Returns:
      Of the choices whose mean is above that of the first with 97.5% confidence (Welch's t-test
      over students, or over episodes if there is one student), and whose worst tenth of all
      episodes has a mean that is not below the first's, the one with the largest mean; 0 if all
      episodes of one of the first choice's students left what the world knows.
    """
    if left[0].all(1).any():
        return 0
    counts = counted(scores, left)
    ones = [one.mean(1) if len(one) > 1 else one[0] for one in counts]
    worst = [_worst_tenth(one) for one in counts]
    safe = [number for number in range(1, len(worst)) if worst[number] >= worst[0]]
    surely = [n for n in safe if welch_interval(ones[n], ones[0])[0] > 0]
    return max(surely, key=lambda number: ones[number].mean(), default=0)


def worst_tenths(scores: Sequence[np.ndarray], left: Sequence[np.ndarray]) -> list[float]:
    """For each choice, the mean of the worst tenth of its episodes, as `surely_best` counts them.

    At least one episode counts.
    """
    return [_worst_tenth(one) for one in counted(scores, left)]


def _worst_tenth(scores: np.ndarray) -> float:
    return float(np.sort(scores, axis=None)[: max(1, scores.size // 10)].mean())


def counted(scores: Sequence[np.ndarray], left: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The scores as `surely_best` counts them.

    An episode of the first choice that left what the world knows counts as the mean of the same
    student's other ones; where the student has no other, with the score that it ended with.
    """
    first, unknown = scores[0], left[0]
    known = np.ma.masked_array(first, unknown).mean(1, keepdims=True)
    replaced = unknown & ~unknown.all(1, keepdims=True)
    return [np.where(replaced, np.asarray(known), first), *scores[1:]]


def welch_interval(ones: np.ndarray, twos: np.ndarray) -> tuple[float, float]:
    """Welch's 95% confidence interval of mean(ones) - mean(twos).

    `scipy.stats` takes a second to import, so it is imported only here.
    """
    from scipy import stats

    if np.ptp(ones) == np.ptp(twos) == 0:
        mean = float(ones.mean() - twos.mean())
        return mean, mean
    with warnings.catch_warnings():
        # SciPy warns of lost precision where all numbers of a side are equal (all students fail).
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.ttest_ind(ones, twos, equal_var=False).confidence_interval(0.95)
    return float(found.low), float(found.high)
