"""Several processes as one job: the result of one, and an end with a name when one of them ends."""

import json
import signal
import socket
import subprocess
import sys
import time

import processes
import pytest
from tiny import ROOT

from tskd_jax.machine import liveness
from tskd_jax.machine.hosts import is_form
from tskd_jax.main import main

# The watch of these tests is quicker, so that they are.
COMMAND = """
import sys
from tskd_jax import liveness, main
liveness.BEAT_SECONDS = 0.5
main.console()
"""
# With one channel a group, as in the tiny runs of other tests, what is before GroupNorm has no
# gradient but rounding, which Adam makes whole steps of: 32 features, on one level.
SMALLER = (
    "--config.evaluation.ablations=False",
    "--config.evaluation.simulator_check=0",
    *(f"--config.{part}.features=32" for part in ("trajectory_generator", "reward_generator")),
    *(f"--config.{part}.multipliers=(1,)" for part in ("trajectory_generator", "reward_generator")),
    "--config.trajectory_generator.horizon=8",
    "--config.reward_generator.horizon=2",
    "--config.checkpoint_seconds=1.0",
)
# Processes that do nothing but agree, until somebody is gone.
AGREEING = """
import sys, time
from tskd_jax import hosts, liveness
liveness.BEAT_SECONDS = 0.25
hosts.join(sys.argv[1])
try:
    while True:
        told = hosts.from_first(lambda: {"of": hosts.jax.process_index(), "a": {"z": 1, "b": 2}})
        # What is there is told, and in its order.
        assert str(told) == "{'of': 0, 'a': {'z': 1, 'b': 2}}", told
        print(hosts.largest(hosts.jax.process_index()), flush=True)
        time.sleep(0.05)
except Exception as error:
    hosts.explain(error)
"""


def free_address() -> str:
    with socket.socket() as some:
        some.bind(("localhost", 0))
        return f"localhost:{some.getsockname()[1]}"


def start_job(argv: list[str], flag: str = "") -> list[subprocess.Popen]:
    """Two processes, one device each."""
    address = free_address()
    return [processes.start([*argv, f"{flag}{address},2,{index}"]) for index in (0, 1)]


def test_the_default_watch_is_in_time():
    assert liveness.BEAT_SECONDS * (liveness.MISSED_BEATS + 3) < 60


@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_who_is_dead_or_stalled_is_named(how, ends):
    job = start_job([sys.executable, "-c", AGREEING])
    for process in job:
        # They have agreed on the larger of their numbers.
        assert process.stdout.readline().startswith(("1", "[Gloo]"))
    job[ends].send_signal(how)
    begin = time.monotonic()
    status, _, told = processes.finish(job[1 - ends])
    assert time.monotonic() - begin < 30
    job[ends].kill()
    job[ends].communicate()
    assert status == 2
    assert [f"process {ends} of 2" in line for line in processes.said(told)] == [True], told


def test_two_processes_end_with_the_scores_of_one(dataset, tmp_path):
    """One of them is killed on the way, and both are started again."""
    workdir, alone = tmp_path / "two", tmp_path / "one"
    argv = processes.command(workdir, dataset, *SMALLER)
    argv[1:3] = ["-c", COMMAND]

    job = start_job(argv, "--config.distributed=")
    processes.wait_until(lambda: processes.checkpoints_of(workdir, "trajectory_generator"), job[0])
    job[1].kill()
    job[1].communicate()
    begin = time.monotonic()
    status, _, told = processes.finish(job[0])
    assert status == 2
    assert time.monotonic() - begin < 30
    assert "process 1 of 2" in processes.said(told)[-1]

    job = start_job(argv, "--config.distributed=")
    # In the meantime, the same by one.
    assert main(["tskd-jax", *processes.command(alone, dataset, *SMALLER)[3:]]) == 0
    ends = [processes.finish(process) for process in job]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert "TSKD" in ends[0][1]
    assert "TSKD" not in ends[1][1]  # only the first speaks
    of_two, of_one = (json.loads((w / "summary.json").read_text()) for w in (workdir, alone))
    assert "× 2" in of_two["device"]
    assert of_two["config"] == of_one["config"]
    for method, scores in of_one["scores"].items():
        assert of_two["scores"][method]["per_seed"] == pytest.approx(scores["per_seed"], rel=1e-4)
    # How many processes there are is no part of what was made: one may take it over.
    assert main(["tskd-jax", *processes.command(workdir, dataset, *SMALLER)[3:]]) == 0


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("off", True),
        ("auto", True),
        ("host-0.job:1234,16,15", True),
        ("10.0.0.1:1,1,0", True),
        ("on", False),
        ("host,2,0", False),
        ("host:1234,2,2", False),
        ("host:1234,2", False),
        ("", False),
    ],
)
def test_forms(value, allowed):
    assert is_form(value) == allowed


def test_what_is_no_job_is_refused_in_a_line(tmp_path, capfd):
    argv = ["tskd-jax", f"--config={ROOT / 'configs/hopper.py'}", f"--workdir={tmp_path / 'run'}"]
    assert main([*argv, "--config.distributed=host:1,2,2"]) == 2
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert "coordinator:port,count,index" in told[0]
    assert not (tmp_path / "run").exists()
