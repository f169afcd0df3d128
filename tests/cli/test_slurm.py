"""Runs of a sweep as jobs of Slurm, which is not there: its programs are scripts."""

import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tskd_jax.cli import launchers, slurm, sweep_run
from tskd_jax.errors import ConfigError, JobError


def tasks(folder: Path, *names: str) -> list[sweep_run.Task]:
    return [sweep_run.Task(str(folder), name, {}, 1.0, []) for name in names]


def test_a_job_without_a_result_is_named_with_what_it_printed(tmp_path):
    found = tasks(tmp_path, "a", "b")
    paths = SimpleNamespace(stderr=tmp_path / "7_0_log.err")
    lost = {"exception": lambda: RuntimeError("lost"), "state": "OUT_OF_MEMORY", "paths": paths}
    kept = {"exception": lambda: None, "result": lambda: 2}
    jobs = slurm.Jobs.__new__(slurm.Jobs)  # without submitit
    jobs._local = True
    jobs._jobs = [
        (found[0], SimpleNamespace(done=lambda: True, job_id="7_0", **lost)),
        (found[1], SimpleNamespace(done=lambda: True, job_id="7_1", **kept)),
    ]
    first, second = jobs.poll()
    assert first.text == (
        f"its job 7_0 has ended before it (state OUT_OF_MEMORY); see {paths.stderr}; "
        "the same command goes on from here"
    )
    assert (second.status, second.text) == (2, "")
    assert not jobs.busy()


def test_a_job_that_has_left_the_queue_without_a_result_has_failed(tmp_path, monkeypatch):
    def job(number, state):
        paths = SimpleNamespace(stderr="its errors", result_pickle=tmp_path / f"{number}.pkl")
        held = {"exception": lambda: None, "result": lambda: 0}
        states[f"7_{number}"] = state
        return SimpleNamespace(job_id=f"7_{number}", paths=paths, **held)

    states = {"5_0": "CANCELLED"}  # of somebody else's sweep
    words = {"waits": "PENDING", "runs": "RUNNING", "requeued": "REQUEUED"}
    words |= {"done": "COMPLETED", "cancelled": "CANCELLED", "gone": ""}
    found = tasks(tmp_path, *words)
    jobs = slurm.Jobs.__new__(slurm.Jobs)  # without submitit
    jobs._local, jobs._looked, jobs._gone = False, -slurm.QUEUE_SECONDS, set()
    jobs._jobs = [(task, job(number, words[task.name])) for number, task in enumerate(found)]
    del states["7_5"]
    (tmp_path / "3.pkl").touch()

    def poll():
        jobs._looked -= slurm.QUEUE_SECONDS
        return {event.task.name: (event.status, event.text) for event in jobs.poll()}

    monkeypatch.setattr(slurm, "queue", lambda: None)  # Slurm does not answer
    assert poll() == {"done": (0, "")}
    monkeypatch.setattr(slurm, "queue", lambda: states)
    assert poll() == {}  # a result may still be on its way
    assert jobs.poll() == []  # too soon
    lost = (
        "its job 7_{} has ended before it (state {}); see its errors; "
        "the same command goes on from here"
    )
    assert poll() == {
        "cancelled": (1, lost.format(4, "CANCELLED")),
        "gone": (1, lost.format(5, "UNKNOWN")),
    }
    assert [task.name for task, _ in jobs._jobs] == ["waits", "runs", "requeued"]


@pytest.mark.parametrize(
    ("variables", "own"),
    [
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}, "7_2"),
        ({"SLURM_JOB_ID": "9"}, "9"),
        ({}, None),
    ],
)
def test_a_preempted_job_is_queued_again_and_a_cancelled_one_is_not(variables, own, monkeypatch):
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, signum: sent.append((pid, signum)))
    job = slurm.InJob(None)  # pyright: ignore[reportArgumentType]
    job._process = SimpleNamespace(terminate=lambda: sent.append("ended"))
    others = {"7_1": "RUNNING", "1": "RUNNING"}
    for state, expected in (
        ({own: "RUNNING"}, (os.getpid(), signal.SIGUSR2) if own else "ended"),
        ({own: "COMPLETING"}, "ended"),
        ({}, "ended"),
        (None, "ended"),  # Slurm does not answer
    ):
        monkeypatch.setattr(slurm, "queue", lambda s=state: None if s is None else others | s)
        job._give_way()
        assert sent.pop() == expected


def test_what_the_queue_says(tmp_path, monkeypatch):
    program = tmp_path / "squeue"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\necho 7_0 RUNNING; echo 8 PENDING\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm.queue() == {"7_0": "RUNNING", "8": "PENDING"}
    asked = (tmp_path / "asked").read_text().split()
    assert {"--array", "--noheader", "--states=all", f"--user={os.getuid()}"} <= set(asked)
    program.write_text("#!/bin/sh\nexit 1\n")
    assert slurm.queue() is None


def test_slurm_needs_submitit_and_sbatch(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install 'tskd_jax\[slurm\]'"):
        launchers.chosen("slurm", ["time=5"])
    monkeypatch.setitem(sys.modules, "submitit", sys)  # any module
    with pytest.raises(ConfigError, match="no sbatch on this machine"):
        launchers.chosen("slurm", ["time=5"])


def test_options_of_sbatch():
    given = slurm.parameters(["time=120", "partition=gpu", "--cpus-per-task=8", "exclude=a,b"])
    assert given == {
        "timeout_min": 120,
        "slurm_additional_parameters": {
            "partition": "gpu",
            "cpus_per_task": "8",
            "exclude": "a,b",
        },
        "slurm_srun_args": ["--cpus-per-task=8"],
    }
    for options, problem in (
        (["partition=gpu"], "--slurm=time=MINUTES"),
        (["time=2:00:00"], "whole number"),
        (["time"], "OPTION=VALUE"),
        (["time=1", "time=2"], "there twice"),
        (["time=1", "nodes=2"], "set by the sweep"),
    ):
        with pytest.raises(ConfigError, match=problem):
            slurm.parameters(options)


def test_an_array_is_submitted_with_the_options(tmp_path, monkeypatch):
    """Slurm is not there: `sbatch` keeps the script, and answers as it would."""
    pytest.importorskip("submitit", reason="the extra slurm is not installed")
    programs = tmp_path / "bin"
    programs.mkdir()
    kept = tmp_path / "script"
    for name, text in (
        ("sbatch", f'cp "$1" {kept}; echo Submitted batch job 7'),
        ("srun", "true"),
        ("squeue", "true"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    jobs = slurm.Jobs("slurm", ["time=30", "partition=gpu", "cpus-per-task=8"])
    events = jobs.submit(tasks(tmp_path / "sweep", "a", "b"))
    assert [(event.task.name, event.status) for event in events] == [("a", None), ("b", None)]
    assert jobs.busy()
    script = kept.read_text()
    for line in ("--array=0-1%2", "--partition=gpu", "--time=30", "--cpus-per-task=8"):
        assert f"#SBATCH {line}\n" in script
    assert re.search(r"^srun .*--cpus-per-task=8 ", script, re.MULTILINE)

    (programs / "sbatch").write_text("#!/bin/sh\necho sbatch: invalid partition >&2; exit 1\n")
    with pytest.raises(JobError, match=r"Slurm refuses the sweep: .*invalid partition"):
        slurm.Jobs("slurm", ["time=30"]).submit(tasks(tmp_path / "sweep", "a", "b"))
