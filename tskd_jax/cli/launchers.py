"""How the runs of a sweep are made: one after another, or side by side as processes or Slurm jobs.

Runs side by side have only the sweep's folder in common. Whichever needs a stage first makes it
(`run.claims`), so that no run has to be begun before another.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from tskd_jax.cli import sweep_run
from tskd_jax.cli.outcome import GO_ON
from tskd_jax.cli.sweep_run import Task
from tskd_jax.errors import ConfigError
from tskd_jax.machine.signals import Interrupted, Request

NONE = "none"
BY_SUBMITIT = ("slurm", "submitit-local")
FORM = "none | local:N | slurm | submitit-local"
LINE_SECONDS = 30.0  # between two progress lines of a run
WAIT_SECONDS = 1.0  # after which it is shown that a run waits for another

Update = Callable[[Task], dict[str, Any]]
Launch = Callable[[list[Task], Update, Request], dict[str, str]]
"""(runs, what reads and writes the row of one that has ended, request) -> what each failure was."""


def chosen(launcher: str, options: list[str]) -> Launch:
    """The launcher of that name.

    Args:
      launcher: as of `FORM`.
      options: OPTION=VALUE each, of sbatch.

    Raises:
      ConfigError: there is no such launcher, or it needs what is not there.
      DeviceError: there is nothing to compute on.
    """
    kind, _, count = launcher.partition(":")
    if options and kind not in BY_SUBMITIT:
        raise ConfigError(f"--slurm={options[0]}: only --launcher=slurm takes options of sbatch")
    if launcher == NONE:
        from tskd_jax.machine import devices

        devices.check()
        return one_after_another
    if launcher in BY_SUBMITIT:
        from tskd_jax.cli import slurm

        return partial(side_by_side, slurm.Jobs(launcher, options))
    if kind != "local" or not count.isdecimal() or int(count) == 0:
        raise ConfigError(f"--launcher={launcher} is no launcher; allowed: {FORM}; N is at least 1")
    from tskd_jax.machine import shares

    platform, found = shares.probe()
    variables = [
        shares.device_variables(platform, found, place, int(count)) for place in range(int(count))
    ]
    return partial(side_by_side, Processes(variables))


def one_after_another(tasks: list[Task], update: Update, request: Request) -> dict[str, str]:
    """Make the runs in this process; the first that fails ends the sweep."""
    for task in tasks:
        print(f"\n{task.place}", flush=True)
        sweep_run.make(task, request)
        update(task)
    return {}


@dataclass(frozen=True)
class Event:
    """What has happened to a run.

    Attributes:
      task: the run.
      status: its exit status; None: it has begun.
      problem: why it has no exit status of its own.
    """

    task: Task
    status: int | None
    problem: str = ""


class Engine(Protocol):
    """What makes runs side by side.

    Attributes:
      pause: seconds between two looks.
    """

    pause: float

    def submit(self, tasks: list[Task]) -> list[Event]:
        """Take the runs, and begin as many as should be under way."""
        ...

    def poll(self) -> list[Event]:
        """What has happened since the last call."""
        ...

    def stop(self, signum: int) -> None:
        """Pass a signal on to the runs that are under way; begin no more."""
        ...

    def busy(self) -> bool:
        """Whether there are runs that have not ended."""
        ...


class Processes:
    """An engine: so many processes of this machine at a time.

    Args:
      variables: of the environment, of each of the processes.
    """

    pause = 0.1

    def __init__(self, variables: list[dict[str, str]]):
        self._variables = variables
        self._left: list[Task] = []
        self._running: dict[int, tuple[Task, subprocess.Popen]] = {}  # by place

    def submit(self, tasks: list[Task]) -> list[Event]:
        """As of `Engine`."""
        self._left = list(tasks)
        return self._begin()

    def poll(self) -> list[Event]:
        """As of `Engine`."""
        ended = []
        for place, (task, process) in list(self._running.items()):
            if (status := process.poll()) is not None:
                del self._running[place]
                ended.append(Event(task, status))
        return ended + self._begin()

    def stop(self, signum: int) -> None:
        """As of `Engine`."""
        self._left = []
        for _, process in self._running.values():
            process.send_signal(signum)

    def busy(self) -> bool:
        """As of `Engine`."""
        return bool(self._left or self._running)

    def _begin(self) -> list[Event]:
        from tskd_jax.machine import shares

        begun, count = [], len(self._variables)
        for place in [place for place in range(count) if place not in self._running]:
            if not self._left:
                break
            cores = shares.cores()
            own = shares.share(cores, place, count) if cores else []
            task = replace(self._left.pop(0), cores=own, variables=self._variables[place])
            self._running[place] = (task, sweep_run.start(task))
            begun.append(Event(task, None))
        return begun


def side_by_side(
    engine: Engine, tasks: list[Task], update: Update, request: Request
) -> dict[str, str]:
    """Make the runs by an engine, and show how they go on.

    Returns:
      Name of a run that failed -> what its failure was, on one line.

    Raises:
      Interrupted: a signal has ended the sweep, and all runs that were under way with it.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")  # the devices are the runs'
    screens, failures, stopped = {task.name: Screen(task) for task in tasks}, {}, False
    done = 0
    events = engine.submit(tasks)
    try:
        while events or engine.busy():
            for event in events:
                name, screen = event.task.name, screens[event.task.name]
                screen.read()
                if event.status is None:
                    screen.show(f"begins; what it prints is in {event.task.output}")
                    continue
                row = update(event.task)
                if event.status == 0:
                    done += 1
                    screen.show("done, score {score:.4g} ± {stderr:.2g}".format(**row))
                else:
                    failures[name] = event.problem or screen.failure(event.status)
                    screen.show(failures[name])
            for screen in screens.values():
                screen.progress()
            if request.signum is not None and not stopped:
                engine.stop(request.signum)
                stopped = True
            time.sleep(engine.pause)
            events = engine.poll()
    except KeyboardInterrupt:  # the second one, which does not wait
        engine.stop(signal.SIGINT)
        raise
    if request.signum is not None and done < len(tasks):
        raise Interrupted(request.signum, f"with {done} of {len(tasks)} runs done")
    return failures


class Screen:
    """What is shown of a run: a line now and then, after its name.

    Args:
      task: the run, whose output from now on is read.
    """

    def __init__(self, task: Task):
        self._task = task
        self._offset = task.output.stat().st_size if task.output.exists() else 0
        self._last = self._problem = ""
        self._news = False
        self._shown = self._came = time.monotonic()

    def show(self, text: str) -> None:
        """Print a line."""
        print(f"{self._task.name}: {text}", file=sys.stderr, flush=True)
        self._news, self._shown = False, time.monotonic()

    def progress(self) -> None:
        """Print the run's last line if it is new, and time for it; that it waits, soon."""
        from tskd_jax.run.claims import WAITS

        self.read()
        waits = f"{WAITS} " in self._last and time.monotonic() - self._came >= WAIT_SECONDS
        if self._news and (waits or time.monotonic() - self._shown >= LINE_SECONDS):
            self.show(self._last)

    def read(self) -> None:
        """Read the whole lines that the run has printed since."""
        with suppress(FileNotFoundError), self._task.output.open("rb") as file:
            file.seek(self._offset)
            text, newline, _ = file.read().rpartition(b"\n")
            self._offset += len(text) + len(newline)
            for line in text.decode(errors="replace").splitlines():
                if plain := " ".join(line.split()):
                    self._last, self._news, self._came = plain, True, time.monotonic()
                if plain.startswith("tskd-jax: "):
                    self._problem = plain.removeprefix("tskd-jax: ")

    def failure(self, status: int) -> str:
        """Why the run ended with that status, on one line."""
        if status < 0:
            return f"ended by {signal.Signals(-status).name}; {GO_ON}"
        return self._problem or f"ended with status {status}; see {self._task.output}"
