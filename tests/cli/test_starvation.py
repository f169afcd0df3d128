"""Real processes: ended by signals, one beside another, without room, without permission."""

import json
import os
import resource
import signal
import subprocess
from contextlib import contextmanager

import pytest
from processes import checkpoints_of, command, finish, messages, start, wait_until

from tskd_jax.main import main

pytestmark = pytest.mark.slow

# A training that does not end by itself, saved after every chunk.
LONG = (
    "--config.inverse_dynamics.steps=1000000000",
    "--config.inverse_dynamics.batch_size=16",
    "--stop_after=inverse_dynamics",
)


def running(workdir, dataset):
    """A process in the middle of a training, with a checkpoint behind it."""
    before = checkpoints_of(workdir, "inverse_dynamics")
    process = start(command(workdir, dataset, *LONG))
    wait_until(lambda: checkpoints_of(workdir, "inverse_dynamics") > before, process)
    return process


def test_signals_and_a_second_process(dataset, tmp_path):
    workdir = tmp_path / "run"
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = running(workdir, dataset)
        if signum == signal.SIGTERM:
            # While it lives, no second one works in its folder, nor changes anything there.
            second = finish(start(command(workdir, dataset, *LONG)))
            assert second[0] == 2
            (line,) = messages(second[2])
            assert f"in use by process {process.pid} on" in line
        process.send_signal(signum)
        code, _, err = finish(process)
        assert code == status
        (line,) = messages(err)
        assert signal.Signals(signum).name in line
        assert "the same command goes on" in line
        # What it names is there.
        last = checkpoints_of(workdir, "inverse_dynamics")[-1]
        assert f"after update {last};" in line
    # Killed, it leaves no lock, and nothing that was saved is lost.
    process = running(workdir, dataset)
    process.kill()
    process.wait()
    last = checkpoints_of(workdir, "inverse_dynamics")[-1]
    process = running(workdir, dataset)
    assert checkpoints_of(workdir, "inverse_dynamics")[-1] > last
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143


def small_disk(folder):
    """Mount a file system of two megabytes, where that is allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed")


def test_a_full_disk(dataset, tmp_path):
    small_disk(tmp_path / "disk")
    try:
        workdir = tmp_path / "disk" / "run"
        code, _, err = finish(start(command(workdir, dataset, *LONG)))
        assert code == 2
        (line,) = messages(err)
        assert "No space left on device" in line
        assert str(workdir) in line
        # What was done before is whole; with room, the same command goes on.
        assert "dataset" in json.loads((workdir / "manifest.json").read_text())["notes"]
        subprocess.run(["mount", "-o", "remount,size=200m", tmp_path / "disk"], check=True)
        process = running(workdir, dataset)
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 143
    finally:
        subprocess.run(["umount", "-l", tmp_path / "disk"], check=True)


def test_a_limit_on_the_size_of_files(dataset, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    workdir = tmp_path / "run"
    code, _, err = finish(start(command(workdir, dataset, *LONG), preexec_fn=limit))
    assert code == 2
    (line,) = messages(err)
    assert "File too large" in line
    assert "the same command goes on" in line
    process = running(workdir, dataset)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_a_folder_that_cannot_be_written(dataset, tmp_path, begun):
    folder = tmp_path / "frozen"
    folder.mkdir()
    workdir = folder / "run"
    argv = command(workdir, dataset, "--stop_after=dataset")
    if begun:
        assert main(argv[2:]) == 0
    with frozen(folder):
        before = sorted(folder.rglob("*"))
        code, _, err = finish(start(argv))
        assert code == 2
        (line,) = messages(err)
        assert f"{workdir}: cannot be used (" in line
        assert "Read-only file system" in line or "Permission denied" in line
        assert "--workdir" in line
        assert sorted(folder.rglob("*")) == before


@contextmanager
def frozen(folder):
    """Nothing in it can be written: by its mode or, for root, whom no mode binds, by a mount."""
    if os.geteuid():
        for path in (folder, *folder.rglob("*")):
            path.chmod(path.stat().st_mode & ~0o222)
        yield
        return
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("mounting is not allowed")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_place_where_nothing_can_be_made(dataset, capfd):
    assert main(command("/proc/tskd/run", dataset)[2:]) == 2
    captured = capfd.readouterr()
    assert len(captured.err.strip().splitlines()) == 1
    assert "/proc/tskd/run: cannot be used" in captured.err


def test_more_memory_than_there_is(dataset, tmp_path):
    # 10⁹ rows of 22 numbers each and 512 activations: terabytes.
    more = ("--config.inverse_dynamics.batch_size=1000000000", "--stop_after=inverse_dynamics")
    code, _, err = finish(start(command(tmp_path / "run", dataset, *more)))
    assert code == 2
    (line,) = messages(err)
    assert "inverse_dynamics: needs about" in line
    assert "batch_size" in line
    assert "inverse_dynamics: takes about" in err  # said before it begins
