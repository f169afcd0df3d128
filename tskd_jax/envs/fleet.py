"""Episodes in lockstep: many environments, one policy, one or more processes. Does not import JAX.

The calling process evaluates the policy once per time step, for all episodes together, whichever
process steps their environments. Every episode has its own seeds and generators. An episode may
therefore differ in its last bits with the number of episodes played together, as a matrix product
does with its number of rows, but never with the number of processes.
"""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from tskd_jax.envs.environment import (
    explained,
    make_environment,
    observed,
    permitted,
    start_episode,
)
from tskd_jax.envs.runners import Runners, steps_together
from tskd_jax.errors import ConfigError

# (observations (E, m), time, rewards (E,) of the last step) -> actions (E, n)
Act = Callable[[np.ndarray, int, np.ndarray], np.ndarray]


class Step(NamedTuple):
    """A time step of the R episodes that were running.

    Attributes:
      running: (R,) indices of these episodes among all E.
      observations: (R, m) before the step.
      actions: (R, n) float64, as the policy gave them.
      rewards: (R,) float64, finite.
      next_observations: (R, m).
      terminated: (R,) bool; an episode that ended without it was truncated.
    """

    running: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray


class _Share:
    """The environments of one process, each with one episode.

    Attributes:
      observations: (E, m) first observations of the episodes.
      running: indices of the episodes that have not ended.
    """

    def __init__(self, gymnasium_id: str, seeds: Sequence[int]):
        self._id, self._seeds = gymnasium_id, seeds
        self._environments = [make_environment(gymnasium_id) for _ in seeds]
        together = steps_together(gymnasium_id)
        self._runners = Runners(self._environments) if together else None
        # Some environments draw from NumPy's global generator; each episode gets its own.
        self._generators = [np.random.MT19937() for _ in seeds]
        self._time = 0
        self.running = list(range(len(seeds)))
        with explained(gymnasium_id), _own_generator():
            self.observations = np.stack([self._start(n, seed) for n, seed in enumerate(seeds)])

    def _start(self, number: int, seed: int) -> np.ndarray:
        np.random.set_bit_generator(self._generators[number])
        return start_episode(self._environments[number], seed)

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        """Step the R running episodes; those that end are removed from `running`.

        Args:
          actions: (E, n) float64.

        Returns:
          ((R, m) observations, (R,) rewards, (R,) terminated, (R,) ended).

        Raises:
          ConfigError: an environment fails, or a reward is not finite.
        """
        with explained(self._id):
            found = (self._step_together if self._runners else self._step_each)(actions)
        self._time += 1
        self._check_rewards(found[1], actions)
        self.running = [n for n, end in zip(self.running, found[-1], strict=True) if not end]
        return found

    def _step_together(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        assert self._runners is not None
        found = self._runners.step(self.running, actions[self.running])
        return *found, found[-1] | (self._time + 1 >= self._runners.limit)

    def _step_each(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        steps = []
        with _own_generator():
            for number in self.running:
                np.random.set_bit_generator(self._generators[number])
                one = self._environments[number]
                observation, reward, terminated, truncated, _ = one.step(
                    permitted(one, actions[number])
                )
                seen = observed(one, observation, f"step {self._time + 1}")
                gained = np.asarray(reward, np.float64).item()  # some return arrays of shape (1,)
                steps.append((seen, gained, terminated, terminated or truncated))
        observations, rewards, terminated, ended = zip(*steps, strict=True)
        return (
            np.array(observations),
            np.array(rewards, np.float64),
            np.array(terminated, bool),
            np.array(ended, bool),
        )

    def _check_rewards(self, rewards: np.ndarray, actions: np.ndarray) -> None:
        """Refuse rewards (R,) that no return can be computed from.

        Raises:
          ConfigError: a reward is not finite in single precision, as trajectories store it.
        """
        bad = np.flatnonzero(~(np.abs(rewards) <= np.finfo(np.float32).max))
        if not len(bad):
            return
        number = self.running[bad[0]]
        cause = "" if np.isfinite(actions[number]).all() else ", for an action that is not finite"
        raise ConfigError(
            f"{self._id}: step {self._time} of the episode with seed {self._seeds[number]} gives "
            f"the reward {rewards[bad[0]]}{cause}; a score needs rewards that are finite in single "
            "precision; mend the environment"
        )

    def close(self) -> None:
        """Close all environments."""
        for environment in self._environments:
            environment.close()


class Fleet:
    """Processes, including the calling one, that step environments of one kind.

    Args:
      gymnasium_id: id of the environment. The other processes know Gymnasium's own environments and
        those that the MODULE of MODULE:ID registers.
      workers: number of processes.
    """

    def __init__(self, gymnasium_id: str, workers: int = 1):
        self._id = gymnasium_id
        self._children: list[tuple[Any, Connection]] = []
        context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
        for _ in range(workers - 1):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            with _interrupts_ignored():
                process.start()
            theirs.close()
            self._children.append((process, ours))

    def __enter__(self) -> "Fleet":
        return self

    def __exit__(self, *_: object) -> None:
        for process, pipe in self._children:
            pipe.close()  # ends the process, unless it hangs in a step
            process.join(timeout=2)
            process.terminate()

    def play(self, act: Act, seeds: Sequence[int], limit: int | None = None) -> Iterator[Step]:
        """Play one whole episode per seed; yields one time step at a time.

        Args:
          act: the policy. Each call gets all E observations and last rewards; those of ended
            episodes are 0, and their actions are ignored.
          seeds: (E,) seeds of the start states.
          limit: steps after which an episode is cut; None: the environment's own limit.

        Raises:
          ConfigError: an environment cannot be made or fails, gives a reward that is not finite or
            an observation of another shape than its space, or a process has died.
        """
        shares = np.array_split(np.arange(len(seeds)), min(len(self._children) + 1, len(seeds)))
        spans = [slice(share[0], share[-1] + 1) for share in shares]
        pipes = [pipe for _, pipe in self._children[: len(spans) - 1]]
        for pipe, span in zip(pipes, spans[1:], strict=True):
            self._ask(pipe, (self._id, [int(seed) for seed in seeds[span]]))
        own = _Share(self._id, [int(seed) for seed in seeds[spans[0]]])
        try:
            observations = np.concatenate([own.observations, *map(self._answer, pipes)])
            rewards = np.zeros(len(seeds))
            running, time = np.arange(len(seeds)), 0
            while len(running) and time != limit:
                actions = np.asarray(act(observations, time, rewards), np.float64)
                alive = np.isin(np.arange(len(seeds)), running)
                asked = [p for p, s in zip(pipes, spans[1:], strict=True) if alive[s].any()]
                for pipe, span in zip(pipes, spans[1:], strict=True):
                    if pipe in asked:
                        self._ask(pipe, actions[span])
                found = [own.step(actions[spans[0]])] if own.running else []
                found += map(self._answer, asked)
                after, gained, terminated, ended = map(np.concatenate, zip(*found, strict=True))
                before = observations[running]
                observations[running], rewards[running] = after, gained
                yield Step(running, before, actions[running], gained, after, terminated)
                # What an episode leaves behind may be infinite, which a policy refuses.
                observations[running[ended]], rewards[running[ended]] = 0, 0
                running, time = running[~ended], time + 1
        finally:
            own.close()

    def _ask(self, pipe: Connection, message: Any) -> None:
        with self._alive():
            pipe.send(message)

    def _answer(self, pipe: Connection) -> Any:
        with self._alive():
            found = pipe.recv()
        if isinstance(found, Exception):
            raise found
        return found

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Convert the error of a pipe whose process has ended to a ConfigError."""
        try:
            yield
        except (EOFError, ConnectionError) as error:
            raise ConfigError(
                f"{self._id}: a process that steps it has ended, perhaps for want of memory; try "
                "--workers=1, or fewer episodes"
            ) from error


def _serve(pipe: Connection) -> None:
    """Main loop of a child process, until its parent closes the pipe or has ended."""
    share = None
    with suppress(EOFError, ConnectionError):
        while True:
            asked = pipe.recv()
            try:
                if isinstance(asked, tuple):
                    if share:
                        share.close()
                    share = _Share(*asked)
                    answer = share.observations
                else:
                    assert share is not None
                    answer = share.step(asked)
            except Exception as error:
                answer = error
            pipe.send(answer)
    if share:
        share.close()


@contextmanager
def _own_generator() -> Iterator[None]:
    """A context in which NumPy's global generator may be replaced; restores it at the end."""
    # Replacing it drops the cached second number of a normal pair; the state includes it.
    generator, state = np.random.get_bit_generator(), np.random.get_state()
    try:
        yield
    finally:
        np.random.set_bit_generator(generator)
        np.random.set_state(state)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A context in which child processes start so that they ignore Ctrl-C.

    A terminal sends Ctrl-C to all processes; only the parent handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
