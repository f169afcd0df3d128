"""The command export: what it writes, and one line for every mistake."""

import re
from pathlib import Path

import numpy as np
import pytest

from tskd_jax import export as forms
from tskd_jax.cli import main
from tskd_jax.contract import Contract
from tskd_jax.export import npz, proof
from tskd_jax.policy import Bounds, Policy, load_contract, load_policy, save_policy

POLICY = Policy(
    (np.eye(2, 4, dtype=np.float32), np.ones((4, 1), np.float32)),
    (np.zeros(4, np.float32), np.zeros(1, np.float32)),
    Bounds((-1.0,), (3.0,)),
)
CONTRACT = Contract(2, 1, (-1.0,), (3.0,), observation_names=("x", "v"), method="bc")


@pytest.fixture
def run(tmp_path) -> Path:
    """A folder as a run leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    save_policy(folder / "student.npz", POLICY, CONTRACT)
    return folder


def export(*words: object) -> int:
    return main(["tskd-jax", "export", *map(str, words)])


def check_refused(capsys, *words: str) -> None:
    """The last command has printed one line, with these words."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tskd-jax: ")
    for word in words:
        assert word in line


def test_a_file_and_a_folder_of_a_run(run, tmp_path, capsys):
    for student in (run, run / "student.npz"):
        out = tmp_path / f"out-{student.name}"
        assert export(student, "--format=npz", f"--out={out / 'a.npz'}") == 0
        assert load_contract(out / "a.npz") == CONTRACT
        printed = capsys.readouterr().out
        assert f"{out / 'a.npz'}: {(out / 'a.npz').stat().st_size:,} bytes" in printed
        assert "the same bits as NumPy" in printed


def test_flags_in_any_order_and_form(run, tmp_path):
    assert export("--format", "c", "--out", tmp_path / "a.h", run, "--int8") == 0
    assert "int8_t" in (tmp_path / "a.h").read_text()
    assert not list(tmp_path.glob(".*"))


def test_several_are_written_into_a_folder(run, tmp_path, capsys):
    out = tmp_path / "forms"
    assert export(run, "--format=npz,c,npz", f"--out={out}") == 0
    assert {path.name for path in out.iterdir()} == {"student.npz", "student.h"}
    np.testing.assert_array_equal(load_policy(out / "student.npz").weights[0], POLICY.weights[0])
    # One into a folder that is there, or that its name says is one.
    (out / "student.h").unlink()
    assert export(run, "--format=c", f"--out={out}") == 0
    assert export(run, "--format=c", f"--out={tmp_path / 'new'}/") == 0
    assert (tmp_path / "new/student.h").is_file()
    capsys.readouterr()


def test_all_leaves_out_what_needs_what_is_not_installed(run, tmp_path, capsys, monkeypatch):
    formats = {name: forms.FORMATS[name] for name in ("npz", "c")}
    monkeypatch.setattr(
        forms, "FORMATS", formats | {"onnx": ("onnx_model", ("not_installed",), "onnx")}
    )
    assert export(run, "--format=all", f"--out={tmp_path / 'forms'}") == 0
    assert {path.name for path in (tmp_path / "forms").iterdir()} == {"student.npz", "student.h"}
    printed = capsys.readouterr().out
    assert "onnx: left out: not-installed is not installed: pip install 'tskd_jax[onnx]'" in printed
    # Named beside the others, too.
    assert export(run, "--format=c,all", f"--out={tmp_path / 'more'}") == 0
    assert {path.name for path in (tmp_path / "more").iterdir()} == {"student.npz", "student.h"}
    capsys.readouterr()
    # What is named itself is needed.
    assert export(run, "--format=all,onnx", f"--out={tmp_path / 'none'}") == 2
    assert not (tmp_path / "none").exists()
    check_refused(capsys, "onnx: not-installed is not installed: pip install 'tskd_jax[onnx]'")
    assert export(run, "--format=onnx", f"--out={tmp_path / 'a.onnx'}") == 2
    check_refused(capsys, "onnx: not-installed is not installed: pip install 'tskd_jax[onnx]'")


def test_a_form_that_acts_differently_is_not_written(run, tmp_path, capsys, monkeypatch):
    other = Policy((2 * POLICY.weights[0], POLICY.weights[1]), POLICY.biases, POLICY.bounds)
    monkeypatch.setattr(npz, "load", lambda content: (other, "a wrong program"))
    assert export(run, "--format=c,npz", f"--out={tmp_path / 'forms'}") == 2
    check_refused(capsys, "npz: differs from the NumPy policy by", "nothing is written")
    assert not (tmp_path / "forms").exists()


def test_a_student_of_an_earlier_version(run, tmp_path):
    save_policy(run / "student.npz", POLICY)
    assert export(run, "--format=c", f"--out={tmp_path / 'a.h'}") == 0
    assert "\n * none\n" in (tmp_path / "a.h").read_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "takes one student"),
        (("RUN", "RUN"), "takes one student"),
        (("RUN",), "--format=NAME is needed: one of npz, onnx, c, tflite, stablehlo, all"),
        (("RUN", "--format="), "--format= has no value"),
        (("RUN", "--format=c"), "--out=PATH is needed"),
        (("RUN", "--format=d", "--out=OUT"), "--format=d: there is no such format; one of npz"),
        (("RUN", "--format=d,all", "--out=OUT"), "--format=d: there is no such format; one of npz"),
        (
            ("RUN", "--format=npz", "--int8", "--out=OUT"),
            "--int8 is of the formats onnx, c, tflite",
        ),
        (("RUN", "--fromat=c", "--out=OUT"), "fromat"),
        (("RUN", "--format=c", "--out=OUT.onnx"), "this format ends in .h, as student.h"),
        (("RUN/no", "--format=c", "--out=OUT"), "RUN/no: not a student file ([Errno 2]"),
        (("RUN/..", "--format=c", "--out=OUT"), "holds no student.npz"),
        (("RUN/note", "--format=c", "--out=OUT"), "not a student file"),
        (("RUN", "--format=c", "--out=RUN/note"), "RUN/note: is there already"),
        (("RUN", "--format=npz", "--out=RUN"), "RUN/student.npz: is there already"),
        (("RUN", "--format=c,npz", "--out=RUN/note"), "RUN/note: is a file; several formats"),
        (("RUN", "--format=c", "--out=RUN/note/a.h"), "RUN/note"),
        (("RUN", "--format=c", "--out=/proc/no/a.h"), "/proc/no"),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, capsys, words, expected):
    (run / "note").write_text("not a student")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    named = {"RUN": str(run), "OUT": str(tmp_path / "out")}

    def fill(text: str) -> str:
        return re.sub("RUN|OUT", lambda found: named[found[0]], text)

    assert export(*map(fill, words)) == 2
    check_refused(capsys, fill(expected))
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_help(capsys):
    assert export("--help") == 0
    printed = capsys.readouterr().out
    for word in ("STUDENT", "--out", "--int8", "stablehlo", "docs/export.md"):
        assert word in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert proof.RANDOM == 10_000  # as it says
