"""Launchers of a sweep's runs: one after another, or in parallel as processes or Slurm jobs.

Parallel runs share only the sweep's folder. The first run that needs a stage computes it
(`run.claims`), so that runs may start in any order.
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
LINE_SECONDS = 30.0  # least time between two progress lines of a run
WAIT_SECONDS = 1.0  # after which a line shows that a run waits for another

Update = Callable[[Task], dict[str, Any]]
Launch = Callable[[list[Task], Update, Request], dict[str, str]]
"""(runs, function that updates the row of an ended run, request) -> {name: failure}."""


def chosen(launcher: str, options: list[str]) -> Launch:
    """The launcher with the given name.

    Args:
      launcher: one of `FORM`.
      options: options of sbatch, each OPTION=VALUE.

    Raises:
      ConfigError: there is no such launcher, or something that it needs is missing.
      DeviceError: there is no device to compute on.
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
    """Execute the runs in this process; the first failure ends the sweep."""
    for task in tasks:
        with suppress(OSError):  # the terminal may be gone
            print(f"\n{task.place}", flush=True)
        sweep_run.make(task, request)
        update(task)
    return {}


@dataclass(frozen=True)
class Event:
    """The start or the end of a run.

    Attributes:
      task: the run.
      status: its exit status; None: the run has started, or waits for its turn.
      text: which of the two; or why the run failed, if it has no exit status of its own.
    """

    task: Task
    status: int | None
    text: str = ""


class Engine(Protocol):
    """Executes runs in parallel.

    Attributes:
      pause: seconds between two polls.
    """

    pause: float

    def submit(self, tasks: list[Task]) -> list[Event]:
        """Accept the runs, and start as many as may run at once."""
        ...

    def poll(self) -> list[Event]:
        """The events since the last call."""
        ...

    def stop(self, signum: int) -> None:
        """Pass a signal on to the active runs, and start no more."""
        ...

    def busy(self) -> bool:
        """Whether any run has not ended yet."""
        ...


class Processes:
    """An engine that runs a fixed number of processes at a time on this machine.

    Args:
      variables: environment variables of each process.
    """

    pause = 0.1

    def __init__(self, variables: list[dict[str, str]]):
        self._variables = variables
        self._left: list[Task] = []
        self._running: dict[int, tuple[Task, subprocess.Popen]] = {}  # by place

    def submit(self, tasks: list[Task]) -> list[Event]:
        """See `Engine`."""
        self._left = list(tasks)
        return self._begin()

    def poll(self) -> list[Event]:
        """See `Engine`."""
        ended = []
        for place, (task, process) in list(self._running.items()):
            if (status := process.poll()) is not None:
                del self._running[place]
                ended.append(Event(task, status))
        return ended + self._begin()

    def stop(self, signum: int) -> None:
        """See `Engine`."""
        self._left = []
        for _, process in self._running.values():
            process.send_signal(signum)

    def busy(self) -> bool:
        """See `Engine`."""
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
            begun.append(Event(task, None, "begins"))
        return begun


def side_by_side(
    engine: Engine, tasks: list[Task], update: Update, request: Request
) -> dict[str, str]:
    """Execute the runs with an engine, and show their progress.

    Returns:
      Name of each failed run -> its failure, on one line.

    Raises:
      Interrupted: a signal has ended the sweep and its active runs.
    """
    import jax

    from tskd_jax.report.sweep import is_filled

    jax.config.update("jax_platforms", "cpu")  # the devices belong to the runs
    screens, failures, stopped = {task.name: Screen(task) for task in tasks}, {}, False
    done = 0
    events = engine.submit(tasks)
    try:
        while events or engine.busy():
            for event in events:
                name, screen = event.task.name, screens[event.task.name]
                screen.read()
                if event.status is None:
                    screen.show(f"{event.text}; what it prints is in {event.task.output}")
                    continue
                row = update(event.task)
                if event.status == 0 and is_filled(row):
                    done += 1
                    screen.show("done, score {score:.4g} ± {stderr:.2g}".format(**row))
                    continue
                failures[name] = event.text or screen.failure(event.status)
                screen.show(failures[name])
            for screen in screens.values():
                screen.progress()
            if request.signum is not None and not stopped:
                engine.stop(request.signum)
                stopped = True
            time.sleep(engine.pause)
            events = engine.poll()
    except KeyboardInterrupt:  # a second SIGINT does not wait for the runs
        engine.stop(signal.SIGINT)
        raise
    if request.signum is not None and done < len(tasks):
        raise Interrupted(request.signum, f"with {done} of {len(tasks)} runs done")
    return failures


class Screen:
    """Shows the progress of a run: a line from time to time, after the run's name.

    Args:
      task: the run, whose output is read from now on.
    """

    def __init__(self, task: Task):
        self._task = task
        self._offset = task.output.stat().st_size if task.output.exists() else 0
        self._last = self._problem = ""
        self._news = False
        self._shown = self._came = time.monotonic()

    def show(self, text: str) -> None:
        """Print a line."""
        with suppress(OSError):  # that the terminal is gone must not end a sweep
            print(f"{self._task.name}: {text}", file=sys.stderr, flush=True)
        self._news, self._shown = False, time.monotonic()

    def progress(self) -> None:
        """Print the run's last line if it is new and due; a line that the run waits is due soon."""
        from tskd_jax.run.claims import WAITS

        self.read()
        waits = f"{WAITS} " in self._last and time.monotonic() - self._came >= WAIT_SECONDS
        if self._news and (waits or time.monotonic() - self._shown >= LINE_SECONDS):
            self.show(self._last)

    def read(self) -> None:
        """Read the complete lines that the run has printed since the last call."""
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
        """Explain on one line why the run ended with the given status, without a result if 0."""
        if status == 0:
            return (
                f"done, but {self._task.place / 'summary.json'} is not visible here yet (a slow "
                f"network file system?); {GO_ON}"
            )
        if status < 0:
            return f"ended by {signal.Signals(-status).name}; {GO_ON}"
        return self._problem or f"ended with status {status}; see {self._task.output}"
