"""What a user's shell, notebook or terminal brings along, and places in the home folder."""

import os
import subprocess
import sys

import pytest
from tiny import ROOT, TINY_FLAGS

from tskd_jax.cli import main
from tskd_jax.report import figures

FEW = ("--config.methods=bc", "--config.evaluation.episodes=1")


def tskd_jax(*words: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUTF8"} | variables
    command = [sys.executable, "-m", "tskd_jax", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)


@pytest.fixture
def tiny(dataset, tmp_path):
    path = f"--config.dataset.path={dataset}"
    return ("run", "--config=hopper", path, f"--workdir={tmp_path / 'run'}", *TINY_FLAGS, *FEW)


@pytest.mark.parametrize(
    "variables",
    [
        {
            "PYTHONIOENCODING": "ascii",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "MUJOCO_GL": "osmesa",
        },
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "JAX_ENABLE_X64": "1"},
    ],
    ids=lambda variables: "-".join(variables),
)
def test_a_run_ends_with_its_table_and_pictures(tiny, tmp_path, variables):
    done = tskd_jax(*tiny, **variables)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    out = done.stdout.decode()
    assert "BC " in out
    assert f"results: {tmp_path / 'run'}" in out
    assert b"Traceback" not in done.stderr
    assert b"no pictures" not in done.stderr
    assert (tmp_path / "run/scores.png").exists()


def test_help_on_a_terminal_of_ascii():
    done = tskd_jax("--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert b"tskd-jax run" in done.stdout


def test_a_closed_stream_is_nowhere():
    """As `2>&-` closes it: nothing of it comes out elsewhere, and no library finds None there."""
    closed = 'exec "$0" -m tskd_jax nonsense 2>&-'
    done = subprocess.run(["sh", "-c", closed, sys.executable], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    program = (
        "from tskd_jax.cli import set_up; set_up(); import os, sys; os.fstat(2); "
        "from tskd_jax.machine.silence import silent\n"
        "with silent(): print('a', file=sys.stderr, flush=True)\n"
        "print('done')"
    )
    closed = 'exec "$0" -c "$1" 2>&-'
    command = ["sh", "-c", closed, sys.executable, program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"done\n")
    closed = 'exec "$0" -m tskd_jax fields >&-'
    done = subprocess.run(["sh", "-c", closed, sys.executable], cwd=ROOT, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_pictures_never_take_a_result_away(tiny, tmp_path, monkeypatch, capfd):
    def fail(*_):
        raise RuntimeError("no font")

    monkeypatch.setattr(figures, "draw", fail)
    assert main(["tskd-jax", *tiny]) == 0
    captured = capfd.readouterr()
    assert "no pictures (RuntimeError: no font); `tskd-jax report" in captured.err
    assert "BC " in captured.out
    assert (tmp_path / "run/summary.json").exists()


def test_a_workdir_in_the_home_folder(tiny, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = [word for word in tiny if not word.startswith("--workdir")]
    assert main(["tskd-jax", *words, "--workdir=~/there", "--stop_after=dataset"]) == 0
    assert (tmp_path / "there/manifest.json").exists()
    assert not (tmp_path / "~").exists()
    capfd.readouterr()
    assert main(["tskd-jax", "report", "~/there"]) == 2  # not finished
    assert str(tmp_path / "there") in capfd.readouterr().err


@pytest.mark.parametrize("flag", ["--reuse=~/none", "--replay=~/none"])
def test_the_home_folder_in_other_paths(flag, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = [] if "replay" in flag else ["--config=hopper"]
    assert main(["tskd-jax", "run", *config, flag, f"--workdir={tmp_path / 'run'}"]) == 2
    assert str(tmp_path / "none") in capfd.readouterr().err


def test_an_empty_path_is_refused(capfd):
    assert main(["tskd-jax", "run", "--config=hopper", "--config.dataset.path="]) == 2
    assert "config.dataset.path= has no value (an unset variable?)" in capfd.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["tskd_jax/main.py", "--config=configs/hopper.py"],
        ["-m", "tskd_jax.main", "--config=configs/hopper.py"],
        ["-m", "tskd_jax", "--config=configs/hopper.py"],
    ],
    ids=["file", "main", "package"],
)
def test_every_way_to_start_it(command, dataset, tmp_path):
    more = [f"--config.dataset.path={dataset}", f"--workdir={tmp_path}", "--stop_after=dataset"]
    done = subprocess.run(
        [sys.executable, *command, *more], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "stopped after dataset" in done.stderr
