"""What docs/export.md shows is run, with a small student in place of a real one."""

import re
import shutil
import subprocess

import numpy as np
import pytest
from exported import contract_of
from tiny import ROOT

from tskd_jax.cli import main
from tskd_jax.policy import Bounds, Policy, save_policy

PAGE = (ROOT / "docs/export.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def forms(tmp_path, monkeypatch):
    """A folder in which the page's commands were given."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    policy = Policy(
        (rng.normal(size=(11, 3)).astype(np.float32),),
        (np.zeros(3, np.float32),),
        Bounds.symmetric(1.0, 3),
    )
    contract = contract_of(
        policy,
        observation_names=("rootz", "rooty", *"abcdefghi"),
        observation_units=("m", "rad", *"abcdefghi"),
        action_names=("thigh_joint", "leg_joint", "foot_joint"),
        action_units=("200 N m",) * 3,
        control_hz=125.0,
        environment="Hopper-v4",
    )
    (tmp_path / "runs/hopper").mkdir(parents=True)
    save_policy(tmp_path / "runs/hopper/student.npz", policy, contract)
    assert main(["tskd-jax", "export", "runs/hopper", "--format=all", "--out=forms/"]) == 0
    return tmp_path / "forms"


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split()[1])
def test_python(forms, code, capsys):
    for module in ("onnxruntime", "ai_edge_litert", "flatbuffers"):
        if module in code or (module == "flatbuffers" and "jax.export" in code):
            pytest.importorskip(module, reason=f"{module} is not installed")
    capsys.readouterr()
    exec(code, {})
    # A comment behind a print is what it prints.
    expected = re.findall(r"^print\(.*?\)  # (.*)$", code, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert printed[: len(expected)] == expected


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")
def test_c(forms):
    (code,) = blocks("c")
    (forms / "loop.c").write_text(code)
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2"]
    done = subprocess.run(
        ["gcc", *strict, "-c", "loop.c"], cwd=forms, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", re.findall(r"^tskd-jax (export .*?)(?: +#.*)?$", PAGE, re.M))
def test_commands(forms, command, capsys):
    shutil.rmtree(forms)
    if "onnx" in command:
        pytest.importorskip("onnx", reason="onnx is not installed")
    assert main(["tskd-jax", *command.split()]) == 0
    assert capsys.readouterr().out
