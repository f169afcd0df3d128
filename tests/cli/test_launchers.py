"""How runs side by side are begun, shown and ended, with programs in place of runs; mistakes."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tskd_jax.cli import launchers, slurm, sweep_run
from tskd_jax.errors import ConfigError, InUseError, JobError
from tskd_jax.machine.signals import Interrupted, Request
from tskd_jax.main import main
from tskd_jax.run import lock


@pytest.fixture
def programs(monkeypatch):
    """Runs are programs: the text of their config."""

    def start(task):
        task.output.parent.mkdir(parents=True, exist_ok=True)
        with task.output.open("ab") as output:
            argv = [sys.executable, "-c", task.config["program"]]
            return subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )

    monkeypatch.setattr(sweep_run, "start", start)


def tasks(folder: Path, **named: str) -> list[sweep_run.Task]:
    return [sweep_run.Task(str(folder), n, {"program": p}, 1.0, []) for n, p in named.items()]


def side_by_side(found, request=None, count=2):
    engine = launchers.Processes([{}] * count)
    row = {"score": 7.0, "stderr": 0.5}
    return launchers.side_by_side(engine, found, lambda _task: row, request or Request())


FAILS = (
    "import sys; print('a line'); print('tskd-jax: the disk is full', file=sys.stderr); sys.exit(2)"
)


def test_one_that_fails_does_not_end_the_others(programs, tmp_path, capfd):
    broken = "import sys; sys.exit(1)"
    killed = "import os; os.kill(os.getpid(), 9)"
    found = tasks(tmp_path, a=FAILS, b="print('fine')", c=broken, d=killed, e="print('fine')")
    failures = side_by_side(found)
    assert failures == {
        "a": "the disk is full",
        "c": f"ended with status 1; see {tmp_path / 'output' / 'c.txt'}",
        "d": "ended by SIGKILL; the same command goes on from here",
    }
    lines = capfd.readouterr().err.splitlines()
    assert f"b: begins; what it prints is in {tmp_path / 'output' / 'b.txt'}" in lines
    assert "e: done, score 7 ± 0.5" in lines
    assert (tmp_path / "output" / "a.txt").read_text().startswith("a line\n")


def test_a_result_that_is_not_visible_yet_is_one_line(programs, tmp_path, capfd):
    """As on a network file system, whose folders are seen late."""
    rows = {"a": {"score": "", "stderr": ""}, "b": {"score": 7.0, "stderr": 0.5}}
    found = tasks(tmp_path, a="pass", b="pass")
    engine = launchers.Processes([{}])
    failures = launchers.side_by_side(engine, found, lambda task: rows[task.name], Request())
    assert list(failures) == ["a"]
    assert failures["a"].startswith(f"done, but {tmp_path / 'a' / 'summary.json'} is not visible")
    assert "b: done, score 7 ± 0.5" in capfd.readouterr().err


def test_a_signal_reaches_the_runs_and_no_more_are_begun(programs, tmp_path):
    waits = (
        "import signal, sys, time; signal.signal(signal.SIGINT, lambda *_: sys.exit(130));"
        f"open({str(tmp_path / 'ready')!r}, 'w').close(); time.sleep(600)"
    )
    request = Request()

    class Watch(launchers.Processes):
        def poll(self):
            if (tmp_path / "ready").exists():
                request.signum = signal.SIGINT
            return super().poll()

    found = tasks(tmp_path, a="pass", b=waits, c="pass")
    row = {"score": 7.0, "stderr": 0.5}
    with pytest.raises(Interrupted, match="with 1 of 3 runs done") as stop:
        launchers.side_by_side(Watch([{}]), found, lambda _task: row, request)
    assert stop.value.status == 130
    assert not (tmp_path / "output" / "c.txt").exists()


def test_that_a_run_waits_is_shown_soon_and_other_lines_now_and_then(tmp_path, capfd, monkeypatch):
    (task,) = tasks(tmp_path, a="")
    task.output.parent.mkdir()
    task.output.write_text("of an earlier launch\n")
    screen = launchers.Screen(task)
    with task.output.open("a") as file:
        file.write("dynamics    3.3s\nhalf a li")
    screen.progress()
    assert capfd.readouterr().err == ""
    with task.output.open("a") as file:
        file.write("ne\nvalue    waits for process 7 on here, in b\n")
    screen.progress()
    monkeypatch.setattr(launchers, "WAIT_SECONDS", 0.0)
    screen.progress()
    screen.progress()
    assert capfd.readouterr().err == "a: value waits for process 7 on here, in b\n"
    monkeypatch.setattr(launchers, "LINE_SECONDS", 0.0)
    with task.output.open("a") as file:
        file.write("value    1.0s\n")
    screen.progress()
    assert capfd.readouterr().err == "a: value 1.0s\n"


def test_a_job_without_a_result_is_named_with_what_it_printed(tmp_path):
    found = tasks(tmp_path, a="", b="")
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
    found = tasks(tmp_path, **dict.fromkeys(words, ""))
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


# Mistakes


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--launcher=local:0"], "local:0 is no launcher; allowed: none"),
        (["--launcher=local:x"], "local:x is no launcher; allowed"),
        (["--launcher=local"], "local is no launcher; allowed"),
        (["--launcher=pbs"], "pbs is no launcher; allowed"),
        (["--slurm=time=5"], "only --launcher=slurm takes"),
        (["--launcher=local:2", "--config.distributed=auto"], "distributed=auto.*allowed is off"),
    ],
)
def test_mistakes_are_one_line(flags, problem, tmp_path, capsys):
    config = ["--config=configs/hopper.py", "--grid=filter.share=0.1,0.2"]
    assert main(["tskd-jax", "sweep", *config, f"--workdir={tmp_path / 'sweep'}", *flags]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(problem, line)
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_of_another_process_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "try_hold", lambda _path: (None, "process 7 on node-3"))
    with pytest.raises(InUseError, match="is in use by process 7 on node-3"):
        lock.hold(tmp_path / "lock")


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
    events = jobs.submit(tasks(tmp_path / "sweep", a="", b=""))
    assert [(event.task.name, event.status) for event in events] == [("a", None), ("b", None)]
    assert jobs.busy()
    script = kept.read_text()
    for line in ("--array=0-1%2", "--partition=gpu", "--time=30", "--cpus-per-task=8"):
        assert f"#SBATCH {line}\n" in script
    assert re.search(r"^srun .*--cpus-per-task=8 ", script, re.MULTILINE)

    (programs / "sbatch").write_text("#!/bin/sh\necho sbatch: invalid partition >&2; exit 1\n")
    with pytest.raises(JobError, match=r"Slurm refuses the sweep: .*invalid partition"):
        slurm.Jobs("slurm", ["time=30"]).submit(tasks(tmp_path / "sweep", a="", b=""))
