"""How fast are a student's episodes, one at a time and in lockstep?

    python -m experiments.benchmarks.evaluation [--student=FILE.npz] [--env=Hopper-v4]
        [--episodes=100] [--workers=1,2] [--repeats=5] [--name=NAME]

The time steps per second of `tskd-jax evaluate`, with each number of processes, and of the plain
loop: one environment, in which the first --alone episodes are played one after the other, and a
policy that is asked for one action. Making environments and starting processes is not a part of
it: `seconds_to_start`, to the end of the first time step. The kinds take turns, so that whatever
else the machine does troubles all of them; `steps_per_second` are medians over --repeats,
`times_alone` is how many times the plain loop's they are. `…_whole`: of whole calls, the start
among them. Returns must be the same bits for every number of processes. Writes NAME.csv in
--results.
"""

import os
import sys
import time
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")  # as the command sets it

import numpy as np
from absl import app, flags

from experiments.tables import show, write
from tskd_jax.costs.fresh import random_student
from tskd_jax.envs.environment import make_environment, start_episode
from tskd_jax.envs.fleet import Fleet
from tskd_jax.envs.own import facts
from tskd_jax.envs.simulator import episode_seeds
from tskd_jax.evaluation.rollout import play, started
from tskd_jax.policy import Policy, load_policy

STUDENT = flags.DEFINE_string("student", None, "A student.npz; None: one of random weights.")
ENV = flags.DEFINE_string("env", "Hopper-v4", "An environment of Gymnasium.")
EPISODES = flags.DEFINE_integer("episodes", 100, "In lockstep.", 1)
ALONE = flags.DEFINE_integer("alone", 10, "Of them, one at a time.", 1)
WORKERS = flags.DEFINE_list("workers", ["1", "2"], "Processes.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Of each measurement; the median counts.", 1)
NAME = flags.DEFINE_string("name", None, "Of the results; None: the device's kind.")
RESULTS = flags.DEFINE_string("results", "experiments/results/benchmark_evaluation", "Folder.")


class Call(NamedTuple):
    """What one call took.

    Attributes:
      start: seconds to the end of the first time step.
      rest: seconds from there.
      first, steps: in the first time step, and behind it.
      returns: of its episodes.
    """

    start: float
    rest: float
    first: int
    steps: int
    returns: np.ndarray


def random_of_that_size() -> Policy:
    """A student of the paper's size, for the environment."""
    states, bounds, _ = facts(ENV.value)
    return random_student((states, 256, 256, len(bounds.low)), bounds)


def alone(policy: Policy, seeds: list[int]) -> Call:
    """The plain loop."""
    begin, times, returns = time.perf_counter(), [], np.zeros(len(seeds))
    environment = make_environment(ENV.value)
    for episode, seed in enumerate(seeds):
        observation, ended = start_episode(environment, seed), False
        while not ended:
            action = policy(observation).astype(np.float64)
            observation, reward, terminated, truncated, _ = environment.step(action)
            returns[episode] += float(reward)
            ended = terminated or truncated
            times.append(time.perf_counter())
    environment.close()
    return Call(times[0] - begin, times[-1] - times[0], 1, len(times) - 1, returns)


def together(policy: Policy, seeds: list[int], workers: int) -> Call:
    """All episodes in lockstep."""
    limit = facts(ENV.value)[2] or sys.maxsize
    begin, times = time.perf_counter(), []
    with Fleet(ENV.value, workers) as fleet:
        returns, lengths = play(
            *(started(policy), fleet, seeds, limit),
            lambda _done, _total: times.append(time.perf_counter()),
        )
    steps = int(lengths.sum()) - len(seeds)
    return Call(times[0] - begin, times[-1] - times[0], len(seeds), steps, returns)


def main(_argv) -> None:
    policy = load_policy(STUDENT.value) if STUDENT.value else random_of_that_size()
    seeds = episode_seeds(0, EPISODES.value)
    counts = [0, *map(int, WORKERS.value)]  # 0: the plain loop
    calls: dict[int, list[Call]] = {count: [] for count in counts}
    for _ in range(REPEATS.value):
        for count in counts:
            one = together(policy, seeds, count) if count else alone(policy, seeds[: ALONE.value])
            calls[count].append(one)
    assert len({call.returns.tobytes() for count in counts[1:] for call in calls[count]}) == 1
    table: list[dict[str, Any]] = []
    for count in counts:
        found = [call.steps / call.rest for call in calls[count]]
        whole = [(call.first + call.steps) / (call.start + call.rest) for call in calls[count]]
        table.append(
            {
                "environment": ENV.value,
                "kind": "lockstep" if count else "one at a time",
                "processes": count or 1,
                "episodes": len(calls[count][0].returns),
                "steps": calls[count][0].steps,
                "steps_per_second": float(np.median(found)),
                "slowest": min(found),
                "fastest": max(found),
                "seconds_to_start": float(np.median([call.start for call in calls[count]])),
                "steps_per_second_whole": float(np.median(whole)),
                "repeats": REPEATS.value,
            }
        )
        for name, rate in (
            ("times_alone", "steps_per_second"),
            ("times_alone_whole", "steps_per_second_whole"),
        ):
            table[-1][name] = table[-1][rate] / table[0][rate]
        show(table[-1])
    write(table, RESULTS.value, NAME.value)


if __name__ == "__main__":
    app.run(main, argv=sys.argv)
