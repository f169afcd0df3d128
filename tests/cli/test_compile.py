"""tskd-jax compile: its table, what it does not do twice, and a GPU where its compiler is there."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import compilers
import jax
import pytest
from tiny import ROOT, SMALL_NETWORKS

from tskd_jax.cli import main
from tskd_jax.machine import aot
from tskd_jax.machine.chips import CHIPS

COMMAND = (
    *("compile", "--config=hopper:quick", "--transitions=2000"),
    *("--config.trajectory_generator.features=8", "--config.trajectory_generator.batch_size=4"),
    *SMALL_NETWORKS,
)


@pytest.fixture
def here(monkeypatch):
    """This machine's CPU in the place of an H100."""
    chip = dataclasses.replace(CHIPS["h100"], platform="cpu", peak={"float32": 1e12})
    monkeypatch.setitem(CHIPS, "h100", chip)
    monkeypatch.setattr(aot, "missing", lambda chip: "")
    monkeypatch.setattr(aot, "prepare", lambda: None)
    monkeypatch.setattr(aot, "devices_of", lambda chip, count: jax.devices()[:count])


def compiled(*flags):
    return main(["tskd-jax", *COMMAND, "--for=h100", *flags])


def test_a_table_that_is_made_once(here, tmp_path, capsys, monkeypatch):
    flags = (f"--workdir={tmp_path}", "--programs=student,baseline")
    assert compiled(*flags) == 0
    shown = capsys.readouterr().out
    assert "a run's programs take" in shown
    found = json.loads((tmp_path / "h100.json").read_text())
    rows = list(csv.DictReader((tmp_path / "h100.csv").open()))
    assert [row["program"] for row in rows] == ["student", "baseline"]
    assert [row["program"] for row in found["programs"]] == ["student", "baseline"]
    assert float(rows[0]["flops"]) > 0

    def refuse(self):
        raise AssertionError(f"{self.program.name} is compiled again")

    monkeypatch.setattr("tskd_jax.costs.report.Lowered.compile", refuse)
    assert compiled(*flags) == 0
    assert json.loads((tmp_path / "h100.json").read_text()) == found


def test_what_was_compiled_before_is_kept(here, tmp_path):
    """Of other programs, too: a call for one of them, or one that is killed, erases none."""
    folder = f"--workdir={tmp_path}"
    for name in ("student", "baseline"):
        assert compiled(folder, f"--programs={name}") == 0
    found = json.loads((tmp_path / "h100.json").read_text())
    assert [row["program"] for row in found["programs"]] == ["baseline", "student"]
    rows = list(csv.DictReader((tmp_path / "h100.csv").open()))
    assert [row["program"] for row in rows] == ["baseline"]


def test_a_program_that_is_none_is_refused(here, tmp_path, capsys):
    assert compiled("--programs=abacus", f"--workdir={tmp_path}") == 2
    assert "none of this config's: student" in capsys.readouterr().err


def test_what_cannot_fit_is_said_before_it_is_compiled(here, tmp_path, capsys, monkeypatch):
    tiny = dataclasses.replace(CHIPS["h100"], memory=1000)
    monkeypatch.setitem(CHIPS, "h100", tiny)
    assert compiled("--programs=student", f"--workdir={tmp_path}") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "does not fit" in line]
    assert "student holds" in lines[0]
    assert lines[-1] == "does not fit: student"


def test_a_compiler_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert compiled() == 2
    assert "pip install 'tskd_jax[aot-cuda]'" in capsys.readouterr().err


def compiled_elsewhere(name, chip, folder, *flags):
    """The rows of a table, by a process that has the compiler for that platform."""
    if not compilers.place(name).is_dir():
        pytest.skip(f"no compiler for a {name}: python tests/compilers.py")
    command = [sys.executable, "-m", "tskd_jax", *COMMAND, f"--for={chip}", f"--workdir={folder}"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{compilers.place(name)}"}
    subprocess.run([*command, *flags], check=True, env=environment, cwd=folder)
    [path] = Path(folder).glob("*.json")
    return json.loads(path.read_text())["programs"]


@pytest.mark.slow
def test_compiled_for_two_h100s(tmp_path):
    flags = "--devices=2", "--programs=student,trajectory_generator"
    student, teacher = compiled_elsewhere("gpu", "h100", tmp_path, *flags)
    assert student["fits"]
    assert student["triton"] + student["cublas"] > 0
    # Of none is more asked than TF32.
    assert student["precise_products"] == teacher["precise_products"] == 0
    # Two devices share the batch of the one teacher, and have to add their gradients.
    assert teacher["collective"] > 0
    assert teacher["collective_bytes"] > 0
    # Nothing is put into another order, update by update, and nothing else is copied: the
    # optimizer changes its state where it lies.
    assert teacher["layout_copies"] == student["layout_copies"] == 0


@pytest.mark.slow
def test_compiled_for_a_tpu(tmp_path):
    (student,) = compiled_elsewhere("tpu", "tpu-v5e", tmp_path, "--programs=student")
    assert student["fits"]
    assert student["cycles"]
    assert 0 < student["share_of_peak"] < 1
