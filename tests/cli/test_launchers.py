"""How runs side by side are begun, shown and ended, with programs in place of runs; mistakes."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tskd_jax.cli import launchers, sweep_run
from tskd_jax.errors import InUseError
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
