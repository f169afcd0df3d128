"""One run of a sweep, in the sweep's process or in a process of its own (`start`).

Such a process reads its task from its standard input, as JSON on one line. It saves and ends when
its standard input is closed, so that it does not outlive a launcher that was killed.
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

CLAIMS = "claims"  # claims of stages that are being computed, in the sweep's folder
OUTPUT = "output"  # output of runs in processes of their own, in the sweep's folder


@dataclass(frozen=True)
class Task:
    """All that a process needs to execute a run of a sweep.

    Attributes:
      sweep: the sweep's folder.
      name: name of the run, and of its folder in the sweep's folder.
      config: the run's config, as nested dicts.
      checkpoint_seconds: seconds between two checkpoints of a training.
      others: names of the sweep's other runs.
      cores: cores that the process is pinned to; empty for all.
      variables: environment variables of the process.
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
        """The file with the output of the run's process."""
        return Path(self.sweep) / OUTPUT / f"{self.name}.txt"


def make(task: Task, request: Request) -> None:
    """Execute or resume a run; wait while another process executes it.

    Raises:
      Interrupted: a signal asked the run to end.
      TskdError: as for `tskd-jax run`.
    """
    from tskd_jax import config as configs
    from tskd_jax.cli.run import run
    from tskd_jax.report.sweep import finished
    from tskd_jax.run.claims import WAITS, growing_pauses

    folder, place = Path(task.sweep), task.place
    # Stages of runs from earlier grids can be reused, too.
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
    """Start the process of a run; its output is appended to the task's file.

    It has a session of its own: signals that a terminal sends to all of its processes do not reach
    it, so that it gets each signal only once, from the caller.
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
    except BrokenPipeError:  # it has ended, and its status tells how
        pass
    return process


def main() -> int:
    """Execute the run of the task on standard input; returns the exit status."""
    set_up()
    return run_to_exit_status(_of_stdin)


def _of_stdin(request: Request) -> int:
    line = sys.stdin.readline()
    if not line.endswith("\n"):  # the launcher was killed before it wrote the whole line
        return 128 + signal.SIGTERM
    task = Task(**json.loads(line))
    threading.Thread(target=_end_with_stdin, name="launcher", daemon=True).start()
    from tskd_jax.machine import devices, shares

    devices.check()
    shares.pin(task.cores)
    make(task, request)
    return 0


def _end_with_stdin() -> None:
    """Ask the run to end when standard input is closed, i.e. when the launcher ends."""
    while os.read(0, 1):  # not `sys.stdin`, whose lock Python needs at exit
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
