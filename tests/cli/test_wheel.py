"""What is installed from a wheel works in an empty folder, with no repository beside it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from tiny import ROOT

from tskd_jax import __version__

GENERATORS = ("trajectory_generator", "reward_generator")
SHIPPED = ("tskd_jax", "configs", "setup.py", "pyproject.toml", "README.md")


def run(argv: list, **options) -> subprocess.CompletedProcess:
    done = subprocess.run(argv, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    # With the setuptools that is here: nothing is fetched.
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder / "dist"]
    run([sys.executable, "-m", "pip", "wheel", *options, folder])
    return next((folder / "dist").glob("*.whl"))


def test_the_citation_is_of_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^version: (.*)$", text, re.MULTILINE) == [__version__]


def test_a_wheel_has_every_room_and_config(wheel):
    files = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "tskd_jax"
    for path in package.rglob("*.py"):
        assert f"tskd_jax/{path.relative_to(package).as_posix()}" in files
    for path in (ROOT / "configs").glob("*.py"):
        assert f"tskd_jax/configs/{path.name}" in files
    assert "tskd_jax/data/bundled/hopper_sac_replay.hdf5" in files


@pytest.mark.slow
def test_an_installed_package_runs_a_config_by_name(wheel, tmp_path):
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    run([sys.executable, "-m", "venv", "--without-pip", environment])
    # The dependencies of these tests' environment, behind the installed package itself.
    site = next((environment / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    options = {"cwd": empty, "env": {**os.environ, "PYTHONPATH": ""}}
    where = run([python, "-c", "import tskd_jax; print(tskd_jax.__file__)"], **options).stdout
    assert Path(where.strip()).is_relative_to(environment)
    few = ("--config.methods=bc", "--config.evaluation.episodes=1", "--config.seeds=(0,1)")
    few += ("--config.referee.episodes=0",)
    command = [python, "-m", "tskd_jax", "run", "--config=hopper:quick"]
    done = run([*command, "--config.steps_multiplier=0.01", *few], **options)
    assert "BC" in done.stdout
    for name in ("summary.json", "student.npz", "report.html"):  # its template is in the wheel
        assert (empty / "runs/hopper-embedded-quick" / name).exists()
    # A file of a config that is not there is the one of that name.
    command[-1] = "--config=configs/hopper.py"
    done = subprocess.run([*command, "--stop_after=lunch"], capture_output=True, **options)
    assert done.returncode == 2
    assert b"--stop_after=lunch is no stage" in done.stderr
