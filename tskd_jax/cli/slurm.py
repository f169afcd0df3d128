"""Runs a sweep as one array of Slurm jobs, with submitit (extra `slurm`).

WORKDIR/submitit/ has the batch script, the jobs' inputs, and Slurm's output. All machines must
share the sweep's folder, on a file system whose locks work between them (docs/scaling.md).
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tskd_jax.cli import sweep_run
from tskd_jax.cli.launchers import Event
from tskd_jax.cli.outcome import GO_ON
from tskd_jax.cli.sweep_run import Task
from tskd_jax.errors import ConfigError, JobError, first_line

FOLDER = "submitit"  # in the sweep's folder
LOCAL = "submitit-local"  # the same in local processes of submitit, all at once, for testing
OF_SUBMITIT = ("array_parallelism", "signal_delay_s")  # besides `time`; all others are sbatch's
# A run is one process, and the array has as many jobs as there are runs.
TAKEN = ("array", "nodes", "ntasks", "ntasks_per_node", "output", "error", "open_mode", "signal")
NO_LIMIT = 365 * 24 * 60  # minutes; submitit would end its local processes after two
SAVING_SECONDS = 60.0  # time that a run has to save before its limit


class Jobs:
    """An engine (`launchers.Engine`) that makes every run a job, which Slurm schedules.

    Args:
      launcher: `slurm` or `submitit-local`.
      options: options of sbatch or submitit, each OPTION=VALUE.

    Raises:
      ConfigError: submitit or Slurm is not installed, or an option is invalid.
    """

    def __init__(self, launcher: str, options: list[str]):
        try:
            import submitit  # noqa: F401  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ConfigError(
                f"--launcher={launcher} needs the package submitit; pip install 'tskd_jax[slurm]'"
            ) from error
        missing = [name for name in ("sbatch", "srun") if not shutil.which(name)]
        self._local = launcher == LOCAL
        if missing and not self._local:
            raise ConfigError(
                f"--launcher={launcher}: there is no {missing[0]} on this machine; begin the sweep "
                "where Slurm's commands are, or with --launcher=local:N"
            )
        self.pause = 0.2 if self._local else 2.0
        self._parameters = parameters(options, needs_time=not self._local)
        self._jobs: list[tuple[Task, Any]] = []

    def submit(self, tasks: list[Task]) -> list[Event]:
        """See `launchers.Engine`; submits all runs as one array.

        Raises:
          JobError: Slurm refuses the jobs.
        """
        import submitit  # pyright: ignore[reportMissingImports]

        if not tasks:
            return []
        folder = Path(tasks[0].sweep).absolute()
        executor = submitit.AutoExecutor(folder / FOLDER, "local" if self._local else "slurm")
        executor.update_parameters(name="tskd-jax", **self._parameters)
        runs = [InJob(replace(task, sweep=str(folder))) for task in tasks]
        try:
            jobs = executor.submit_array(runs)
        except (submitit.core.utils.FailedJobError, OSError) as error:
            raise JobError(f"Slurm refuses the sweep: {_cause(error)}") from error
        self._jobs = list(zip(tasks, jobs, strict=True))
        return [Event(task, None) for task in tasks]

    def poll(self) -> list[Event]:
        """See `launchers.Engine`."""
        ended = [(task, job) for task, job in self._jobs if job.done()]
        self._jobs = [one for one in self._jobs if one not in ended]
        return [_event(task, job) for task, job in ended]

    def stop(self, signum: int) -> None:
        """See `launchers.Engine`; jobs get SIGTERM, whatever the signal was."""
        del signum
        ids = [job.job_id for _, job in self._jobs]
        if self._local:
            for process in map(int, ids):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            return
        # Without --signal, `scancel` would kill the jobs before they have saved.
        for which in ("--state=PENDING", "--signal=TERM"):
            subprocess.run(["scancel", which, *ids], check=False)
        # Do not wait for the jobs: they end by themselves, and Slurm reports their state late.
        self._jobs = []

    def busy(self) -> bool:
        """See `launchers.Engine`."""
        return bool(self._jobs)


class InJob:
    """A run inside a job: a process that the job ends with SIGTERM before its time limit.

    Args:
      task: the run; its folder is absolute.
    """

    def __init__(self, task: Task):
        self._task = task
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Execute the run; returns its exit status."""
        self._process = sweep_run.start(self._task)
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        while (status := self._process.poll()) is None:
            time.sleep(0.2)
        return status

    def checkpoint(self) -> Any:
        """Save the run when its time is up or it is preempted; returns the job to queue next."""
        from submitit.helpers import DelayedSubmission  # pyright: ignore[reportMissingImports]

        self._end()
        end = time.monotonic() + SAVING_SECONDS
        while self._process and self._process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        return DelayedSubmission(InJob(self._task))

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()


def parameters(options: list[str], needs_time: bool = True) -> dict[str, Any]:
    """Convert options of sbatch, each OPTION=VALUE, to parameters of submitit.

    Raises:
      ConfigError: an option is malformed, given twice or set by the sweep, or `time` is missing.
    """
    found: dict[str, str] = {}
    for option in options:
        name, _, value = option.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if not name or not value:
            raise ConfigError(f"--slurm={option}: OPTION=VALUE is meant, such as partition=gpu")
        if name in found:
            raise ConfigError(f"--slurm={option}: {name} is there twice")
        if name in TAKEN:
            raise ConfigError(f"--slurm={option}: {name} is set by the sweep; leave it out")
        found[name] = value
    # submitit needs these as numbers; its default time of five minutes would end every run.
    numbers = {name: found.pop(name) for name in ("time", *OF_SUBMITIT) if name in found}
    for name, value in numbers.items():
        if not value.isdecimal() or int(value) == 0:
            raise ConfigError(f"--slurm={name}={value}: a whole number above 0 is meant")
    if needs_time and "time" not in numbers:
        raise ConfigError("--launcher=slurm needs the time of one run: --slurm=time=MINUTES")
    given: dict[str, Any] = {"timeout_min": int(numbers.pop("time", NO_LIMIT))}
    given |= {f"slurm_{name}": int(value) for name, value in numbers.items()}
    if found:
        given["slurm_additional_parameters"] = found
    if "cpus_per_task" in found:  # srun does not inherit it from sbatch
        given["slurm_srun_args"] = [f"--cpus-per-task={found['cpus_per_task']}"]
    return given


def _event(task: Task, job: Any) -> Event:
    """The end of a job: its run's exit status, or else the state that submitit reports."""
    if job.exception() is None:
        return Event(task, job.result())
    problem = f"its job {job.job_id} has ended before it (state {job.state})"
    return Event(task, 1, f"{problem}; see {job.paths.stderr}; {GO_ON}")


def _cause(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else first_line(error)
