"""Several processes as one job: the result of one, and a named end when one of them is gone."""

import json
import signal
import socket
import subprocess
import sys
import time

import processes
import pytest
from jax._src import distributed
from tiny import ROOT

from tskd_jax.machine import heartbeat
from tskd_jax.machine.hosts import is_form
from tskd_jax.main import main

# The heartbeat of these tests is quicker, so that they are.
COMMAND = """
import sys
from tskd_jax import main
from tskd_jax.machine import heartbeat
heartbeat.BEAT_SECONDS = 1.0
main.console()
"""
# With one channel a group, as in the tiny runs of other tests, what is before GroupNorm has no
# gradient but rounding, which Adam makes whole steps of: 32 features, on one level.
SMALLER = (
    "--config.methods=tskd",
    "--config.ablations=False",
    "--config.evaluation.simulator_check=0",
    *(f"--config.{part}.features=32" for part in ("trajectory_generator", "reward_generator")),
    "--config.trajectory_generator.horizon=8",
    "--config.reward_generator.horizon=2",
    "--config.checkpoint_seconds=0.3",
)
# Processes that do nothing but agree, until one is gone.
AGREEING = """
import sys, time
from tskd_jax.machine import heartbeat, hosts
store, address = sys.argv[1:]
heartbeat.BEAT_SECONDS = 0.25
if store == "hidden":
    hosts.JAX_HEARTBEAT_SECONDS = 10
    heartbeat._private_jax = lambda index: (None, "")
hosts.join(address)
try:
    while True:
        sent = hosts.from_first(lambda: {"of": hosts.jax.process_index(), "a": {"z": 1, "b": 2}})
        # All of it arrives, in its order.
        assert str(sent) == "{'of': 0, 'a': {'z': 1, 'b': 2}}", sent
        print(hosts.largest(hosts.jax.process_index()), flush=True)
        time.sleep(0.05)
except Exception as error:
    hosts.explain(error)
"""
# The first process is still at work when the other has done its part.
PARTING = """
import sys, time
from tskd_jax.machine import heartbeat, hosts
heartbeat.BEAT_SECONDS = 0.25
hosts.join(sys.argv[1])
if hosts.is_first():
    time.sleep(0.25 * 2 * heartbeat.MISSED_BEATS)
hosts.meet()
hosts.leave()
"""


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return f"localhost:{free.getsockname()[1]}"


def start_job(argv: list[str], flag: str = "") -> list[subprocess.Popen]:
    """Two processes, one device each."""
    address = free_address()
    return [processes.start([*argv, f"{flag}{address},2,{index}"]) for index in (0, 1)]


def agreeing(store: str = "there") -> list[subprocess.Popen]:
    """Two processes that have agreed on the larger of their numbers."""
    job = start_job([sys.executable, "-c", AGREEING, store])
    for process in job:
        assert process.stdout.readline().startswith(("1", "[Gloo]"))
    return job


def test_the_default_heartbeat_is_in_time():
    assert heartbeat.BEAT_SECONDS * (heartbeat.MISSED_BEATS + 3) < 60


@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_stalled_process_is_named(how, ends):
    job = agreeing()
    job[ends].send_signal(how)
    begin = time.monotonic()
    status, _, err = processes.finish(job[1 - ends])
    assert time.monotonic() - begin < 30
    job[ends].kill()
    job[ends].communicate()
    assert status == 2
    assert [f"process {ends} of 2" in line for line in processes.messages(err)] == [True], err


def test_who_has_done_his_part_waits_and_is_not_taken_for_dead():
    job = start_job([sys.executable, "-c", PARTING])
    assert [processes.finish(process)[0] for process in job] == [0, 0]


def test_without_jaxs_private_store_a_job_is_left_to_jax():
    job = agreeing("hidden")
    time.sleep(0.25 * (heartbeat.MISSED_BEATS + 3))
    assert [process.poll() for process in job] == [None, None]  # none is accused
    job[1].kill()
    job[1].communicate()
    # JAX notices, at the latest by its own heartbeat, of 10 s here; it need not name anybody.
    _, err = job[0].communicate(timeout=60)
    assert job[0].returncode in (1, 2), err
    assert "has no key-value store" in err


class Client:
    """A client of JAX's coordination service that answers with an error, or nothing."""

    def __init__(self, error: Exception | None = None):
        self.error, self.entries = error, {}

    def key_value_set(self, key, value, allow_overwrite):
        if self.error:
            raise self.error
        self.entries[key] = value

    def key_value_dir_get(self, folder):
        return [entry for entry in self.entries.items() if entry[0].startswith(folder)]


def test_the_private_store_is_used_where_it_is(monkeypatch):
    client = Client()
    monkeypatch.setattr(distributed.global_state, "client", client)
    monkeypatch.setattr(distributed.global_state, "coordinator_address", "host:1")
    exchange, address = heartbeat._private_jax(3)
    assert address == "host:1"
    assert client.entries == {"tskd_jax/alive/3": "0"}
    assert exchange("tskd_jax/alive/1", "7") == {"tskd_jax/alive/3": "0", "tskd_jax/alive/1": "7"}
    # A store that does not answer is a missed beat; it is no reason to do without.
    monkeypatch.setattr(distributed.global_state, "client", Client(RuntimeError("UNAVAILABLE")))
    assert heartbeat._private_jax(3)[0] is not None


@pytest.mark.parametrize("client", [None, object(), Client(TypeError("no allow_overwrite"))])
def test_a_client_of_another_form_is_left_alone(client, monkeypatch):
    monkeypatch.setattr(distributed.global_state, "client", client)
    assert heartbeat._private_jax(0)[0] is None


def test_a_state_of_another_form_is_left_alone(monkeypatch):
    monkeypatch.delattr(distributed, "global_state")
    assert heartbeat._private_jax(0) == (None, "")


@pytest.mark.slow
def test_two_processes_end_with_the_scores_of_one(dataset, tmp_path):
    """One of them is killed on the way, and both are started again."""
    workdir, alone = tmp_path / "two", tmp_path / "one"
    argv = processes.command(workdir, dataset, *SMALLER)
    argv[1:3] = ["-c", COMMAND]

    job = start_job(argv, "--config.distributed=")
    processes.wait_until(lambda: processes.checkpoints_of(workdir, "dynamics"), job[0])
    job[1].kill()
    job[1].communicate()
    begin = time.monotonic()
    status, _, err = processes.finish(job[0])
    assert status == 2
    assert time.monotonic() - begin < 30
    assert "process 1 of 2" in processes.messages(err)[-1]

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


def test_an_impossible_job_is_refused_in_one_line(tmp_path, capfd):
    argv = ["tskd-jax", f"--config={ROOT / 'configs/hopper.py'}", f"--workdir={tmp_path / 'run'}"]
    assert main([*argv, "--config.distributed=host:1,2,2"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "coordinator:port,count,index" in lines[0]
    assert not (tmp_path / "run").exists()
