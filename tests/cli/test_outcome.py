"""How a command ends by a signal, and where nobody reads its output."""

import os
import signal
import subprocess
import sys
import time

import pytest
from tiny import ROOT

from tskd_jax import cli
from tskd_jax.cli.outcome import ending_at_once, run_to_exit_status
from tskd_jax.machine.signals import SIGNALS
from tskd_jax.run import files

PATIENCE = 20.0  # seconds; a signal takes none of them


def interrupted(signum: int) -> None:
    """A long piece of work, in which a signal arrives."""
    os.kill(os.getpid(), signum)
    time.sleep(PATIENCE)
    pytest.fail("the signal was not heard")


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize("name", cli.AT_ONCE)
def test_a_signal_ends_a_command_that_keeps_nothing(name, signum, monkeypatch, capsys):
    monkeypatch.setattr(f"tskd_jax.cli.{name}.main", lambda _argv, _request: interrupted(signum))
    handlers = [signal.getsignal(one) for one in SIGNALS]
    monkeypatch.setattr(cli, "set_up", lambda: "egl")
    monkeypatch.setenv("MUJOCO_GL", "disable")
    assert cli.main(["tskd-jax", name]) == 128 + signum
    assert capsys.readouterr().err == f"tskd-jax: {signal.Signals(signum).name}: stopped\n"
    assert [signal.getsignal(one) for one in SIGNALS] == handlers


def test_no_half_written_file_is_left(tmp_path):
    def command(request):
        with ending_at_once(request), files.replacing(tmp_path / "a.npz") as temporary:
            temporary.write_bytes(b"half")
            interrupted(signal.SIGTERM)

    assert run_to_exit_status(command) == 143
    assert not list(tmp_path.iterdir())


def test_a_signal_that_came_before_is_heard():
    def command(request):
        os.kill(os.getpid(), signal.SIGTERM)
        with ending_at_once(request):
            pytest.fail("the signal was not heard")

    assert run_to_exit_status(command) == 143


@pytest.mark.parametrize("word", ["fields", "--version"], ids=["long", "short"])
def test_output_that_nobody_reads_ends_a_command_quietly(word):
    process = subprocess.Popen(
        [sys.executable, "-m", "tskd_jax", word],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


def test_a_pipe_that_is_not_the_output_is_an_error(capsys):
    def command(_request):
        raise BrokenPipeError(32, "Broken pipe")

    assert run_to_exit_status(command) == 2
    assert "Broken pipe" in capsys.readouterr().err
