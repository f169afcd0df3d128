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
QUEUE_SECONDS = 15.0  # between two looks at Slurm's queue
# `squeue` says these of jobs that are there; of any other state, a job has ended.
THERE = {
    *("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"),
    *("COMPLETING", "STAGE_OUT", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"),
}


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
        missing = [name for name in ("sbatch", "srun", "squeue") if not shutil.which(name)]
        self._local = launcher == LOCAL
        if missing and not self._local:
            raise ConfigError(
                f"--launcher={launcher}: there is no {missing[0]} on this machine; begin the sweep "
                "where Slurm's commands are, or with --launcher=local:N"
            )
        self.pause = 0.2 if self._local else 2.0
        self._parameters = parameters(options, needs_time=not self._local)
        self._jobs: list[tuple[Task, Any]] = []
        self._looked = 0.0
        self._gone: set[str] = set()  # at the last look at the queue

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
        queued = "begins" if self._local else "is queued as job {}"
        return [Event(task, None, queued.format(job.job_id)) for task, job in self._jobs]

    def poll(self) -> list[Event]:
        """See `launchers.Engine`."""
        lost = {} if self._local else self._lost()
        events = []
        for task, job in list(self._jobs):
            if job.done() if self._local else job.paths.result_pickle.exists():
                events.append(_event(task, job))
            elif job.job_id in lost:
                events.append(Event(task, 1, _without_result(job, lost[job.job_id])))
            else:
                continue
            self._jobs.remove((task, job))
        return events

    def _lost(self) -> dict[str, str]:
        """Jobs that have left the queue for longer than a result may take to appear -> state.

        submitit would ask `sacct`, which answers only where Slurm keeps accounts.
        """
        if time.monotonic() - self._looked < QUEUE_SECONDS:
            return {}
        self._looked = time.monotonic()
        if (states := queue()) is None:
            return {}
        ids = {job.job_id for _, job in self._jobs}
        ended = {one: states.get(one, "UNKNOWN") for one in ids if states.get(one) not in THERE}
        lost = {one: state for one, state in ended.items() if one in self._gone}
        self._gone = set(ended)
        return lost

    def stop(self, signum: int) -> None:
        """See `launchers.Engine`; runs end as by SIGTERM, whatever the signal was.

        Slurm's jobs get SIGINT, because SIGTERM means to them that they have been preempted.
        """
        del signum
        ids = [job.job_id for _, job in self._jobs]
        if self._local:
            for process in map(int, ids):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            return
        # Without --signal, `scancel` would kill the jobs before they have saved.
        for which in ("--state=PENDING", "--signal=INT"):
            # It complains about each job that is in another state.
            subprocess.run(["scancel", which, *ids], check=False, capture_output=True)
        # Do not wait for the jobs: they end by themselves, and Slurm reports their state late.
        self._jobs = []

    def busy(self) -> bool:
        """See `launchers.Engine`."""
        return bool(self._jobs)


class InJob:
    """A run inside a job: a process that the job ends with SIGTERM before its time limit.

    Slurm preempts a job with SIGTERM if its partition grants some time (`GraceTime`). A job that
    then ended by itself would be a finished one, so it has itself queued again, as submitit does
    when the time is up.

    Args:
      task: the run; its folder is absolute.
    """

    def __init__(self, task: Task):
        self._task = task
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Execute the run; returns its exit status."""
        self._process = sweep_run.start(self._task)
        signal.signal(signal.SIGTERM, lambda *_: self._give_way())
        signal.signal(signal.SIGINT, lambda *_: self._end())
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

    def _give_way(self) -> None:
        """Save and be queued again if the job was preempted; if it was cancelled, save and end."""
        from submitit.core.job_environment import (  # pyright: ignore[reportMissingImports]
            JobEnvironment,
        )

        # Until it has ended, a job that is preempted counts as running; a cancelled one does not.
        if (queue() or {}).get(own_id()) == "RUNNING":
            os.kill(os.getpid(), getattr(signal, f"SIG{JobEnvironment.USR_SIG}"))
        else:
            self._end()

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


def own_id() -> str:
    """The id of the job that this process belongs to, as in `queue`; "" without one."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{task}" if job and task else os.environ.get("SLURM_JOB_ID", "")


def queue() -> dict[str, str] | None:
    """The user's jobs, also those that ended a moment ago -> state; None if Slurm does not answer.

    Those of an array have ids such as 7_0.
    """
    user = f"--user={os.getuid()}"
    command = ["squeue", "--array", "--noheader", "--states=all", "--format=%i %T", user]
    try:
        found = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:  # there is no Slurm, or not on this machine
        return None
    if found.returncode != 0:
        return None
    return dict(line.split(maxsplit=1) for line in found.stdout.splitlines() if " " in line)


def _event(task: Task, job: Any) -> Event:
    """The end of a job that has a result: its run's exit status, or why there is none."""
    if job.exception() is None:
        return Event(task, job.result())
    return Event(task, 1, _without_result(job, job.state))


def _without_result(job: Any, state: str) -> str:
    problem = f"its job {job.job_id} has ended before it (state {state})"
    return f"{problem}; see {job.paths.stderr}; {GO_ON}"


def _cause(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else first_line(error)
