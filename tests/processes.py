"""The command as a real process, that tests can watch, signal and starve."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache
from tiny import ROOT, TINY_FLAGS

PATIENCE = 300.0  # seconds, on a busy machine


def command(workdir: Path, dataset: Path, *more: str) -> list[str]:
    """The command line of a tiny run."""
    config = f"--config={ROOT / 'configs/hopper.py'}"
    paths = (f"--config.dataset.path={dataset}", f"--workdir={workdir}")
    return [sys.executable, "-m", "tskd_jax.main", config, *paths, *TINY_FLAGS, *more]


def cache_compilations(folder: Path | None) -> None:
    """Let this process, too, compile each program once for all of that cache; None: no more."""
    jax.config.update("jax_compilation_cache_dir", folder and str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0 if folder else 1.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1 if folder else 0)
    compilation_cache.reset_cache()


def start(argv: list[str], cache: Path, **options) -> subprocess.Popen:
    """Start a command that compiles each program once for all processes of that cache."""
    variables = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    return subprocess.Popen(
        argv,
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
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
    return sorted(map(int, manifest["checkpoints"].get(training, {})))


def said(err: str) -> list[str]:
    """The lines that the command itself ended with."""
    return [line for line in err.splitlines() if line.startswith("tskd-jax: ")]
