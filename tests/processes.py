"""The command as a real process, that tests can watch, signal and starve."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tiny import ROOT, TINY_FLAGS

PATIENCE = 300.0  # seconds, on a busy machine


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    """The command line of a tiny run."""
    config = f"--config={ROOT / 'configs/hopper.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={workdir}")
    saving = "--config.checkpoint_seconds=0.01"  # after every chunk
    return [sys.executable, "-m", "tskd_jax.main", config, *paths, *TINY_FLAGS, saving, *more]


def start(argv: list[str], **options) -> subprocess.Popen:
    """Start a command, whose output `finish` reads."""
    return subprocess.Popen(
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """(exit status, standard output, standard error); none may show a traceback."""
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for something that the process does; it may not end before."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def checkpoints_of(workdir: Path, training: str) -> list[int]:
    """Steps of the checkpoints of a training that the manifest knows."""
    try:
        manifest = json.loads((workdir / "manifest.json").read_text())
    except FileNotFoundError:
        return []
    steps: list[str] = []
    for kept in manifest["checkpoints"].values():
        steps += kept.get(training, {})
    return sorted(map(int, steps))


def messages(err: str) -> list[str]:
    """The lines that the command itself ended with."""
    return [line for line in err.splitlines() if line.startswith("tskd-jax: ")]
