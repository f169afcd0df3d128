"""A lock dies with its process and is the process's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tskd_jax.errors import WorkdirError
from tskd_jax.run import lock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time, pathlib
from tskd_jax.run import lock
held = lock.hold(pathlib.Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "lock")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_process_is_refused_while_the_first_lives(holder, tmp_path):
    with pytest.raises(WorkdirError, match=f"in use by process {holder.pid} on ") as caught:
        lock.hold(tmp_path / "lock")
    assert "--workdir" in str(caught.value)
    holder.kill()
    holder.wait()
    lock.hold(tmp_path / "lock").close()


def test_the_same_process_may_lock_again(tmp_path):
    first = lock.hold(tmp_path / "lock")
    lock.hold(tmp_path / "lock").close()
    first.close()


def test_a_file_that_its_holder_removes_meanwhile_is_made_anew(tmp_path, monkeypatch):
    path, real, removed = tmp_path / "lock", os.fstat, []

    def removing(descriptor):
        if not removed:
            removed.append(True)
            path.unlink()
        return real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", removing)
        held = lock.hold(path)
    assert removed
    assert path.read_text().startswith(f"process {os.getpid()} on ")
    held.close()
