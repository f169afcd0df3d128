"""One run of a sweep: in the sweep's process, or as a process of its own (`start`).

The process reads its task, JSON on one line, from its standard input, and saves and ends when that
is closed: so it does not outlive a launcher that was killed.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tskd_jax.cli import set_up
from tskd_jax.cli.outcome import run_to_exit_status
from tskd_jax.errors import InUseError
from tskd_jax.machine.signals import Request

CLAIMS = "claims"  # of stages that are being made, in the sweep's folder
OUTPUT = "output"  # of the runs that are processes of their own, likewise


@dataclass(frozen=True)
class Task:
    """What a process needs to know to make a run of a sweep.

    Attributes:
      sweep: the sweep's folder.
      name: of the run, and of its folder in the sweep's.
      config: of the run, as nested dicts.
      checkpoint_seconds: between two checkpoints of a training.
      others: names of the sweep's other runs.
      cores: those that the process is kept to; none for all.
      variables: of the process's environment.
    """

    sweep: str
    name: str
    config: dict[str, Any]
    checkpoint_seconds: float
    others: list[str]
    cores: list[int] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        """The run's folder."""
        return Path(self.sweep) / self.name

    @property
    def output(self) -> Path:
        """The file of what the run's process prints."""
        return Path(self.sweep) / OUTPUT / f"{self.name}.txt"


def make(task: Task, request: Request) -> None:
    """Make a run, or go on with it; wait where another process is at it.

    Raises:
      Interrupted: a signal asked the run to end.
      TskdError: as of `tskd-jax run`.
    """
    from tskd_jax import config as configs
    from tskd_jax.cli.run import run
    from tskd_jax.report.sweep import finished
    from tskd_jax.run.claims import WAITS, growing_pauses

    folder, place = Path(task.sweep), task.place
    # Those of earlier grids have stages to be taken over, too.
    others = {path.parent for path in folder.glob("*/manifest.json")} - {place}
    others |= {folder / name for name in task.others}
    config = configs.from_plain(task.config)
    pauses, holder = growing_pauses(), ""
    while not (holder and finished(place, task.config)):
        try:
            seconds, claims = task.checkpoint_seconds, folder / CLAIMS
            run(config, place, request, None, seconds, sorted(others), claims=claims)
            return
        except InUseError as problem:
            if not holder:
                holder = str(problem).partition(";")[0]
                print(f"{WAITS} another process: {holder}", file=sys.stderr, flush=True)
        request.stop_if_requested(f"before {task.name}")
        time.sleep(next(pauses))


def start(task: Task) -> subprocess.Popen:
    """The process of a run, whose output is appended to the task's file.

    It is of a session of its own: what a terminal sends to all of its processes does not reach it,
    and whoever starts it passes a signal on once.
    """
    task.output.parent.mkdir(parents=True, exist_ok=True)
    variables = {"PYTHONIOENCODING": "utf-8:replace", "PYTHONUNBUFFERED": "1"}
    with task.output.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | variables | task.variables,
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:  # it has ended, and its status says how
        pass
    return process


def main() -> int:
    """Make the run of the task that standard input gives; returns the exit status."""
    set_up()
    return run_to_exit_status(_of_stdin)


def _of_stdin(request: Request) -> int:
    line = sys.stdin.readline()
    if not line.endswith("\n"):  # the launcher was killed before it had written all
        return 128 + signal.SIGTERM
    task = Task(**json.loads(line))
    threading.Thread(target=_end_with_stdin, name="launcher", daemon=True).start()
    from tskd_jax.machine import devices, shares

    devices.check()
    shares.pin(task.cores)
    make(task, request)
    return 0


def _end_with_stdin() -> None:
    """Ask the run to end when standard input does, which is with the launcher."""
    while os.read(0, 1):  # not by `sys.stdin`, whose lock Python wants as it ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
