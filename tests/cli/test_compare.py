"""`tskd-jax compare`: where it writes, and one line for what it refuses."""

import csv
import os
import subprocess
import sys

import pytest
from report.finished import make_run

from tskd_jax.cli import main


@pytest.fixture
def runs(tmp_path):
    one = make_run(tmp_path / "runs/one", {"bc": [[1, 3], [4, 6]]})
    other = make_run(tmp_path / "runs/other", {"tskd": [[8, 12], [4, 4]]})
    return one, other


def compare(*words) -> int:
    return main(["tskd-jax", "compare", *map(str, words)])


def refused(capsys, *words) -> str:
    """The only line that a command says."""
    assert compare(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


def test_a_table_and_files_beside_the_first_run(runs, capsys):
    assert compare(*runs) == 0
    out = runs[0].parent / "comparison"
    assert {path.name for path in out.iterdir()} == {
        "comparison.csv",
        "comparison.md",
        "comparison.png",
    }
    said = capsys.readouterr().out
    assert "few: normalised score, mean ± standard error over seeds" in said
    assert f"written: {out / 'comparison.csv'}, {out / 'comparison.md'}, " in said
    with (out / "comparison.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["bc", "tskd"]
    # Again the same, where a pattern such as runs/* names its own results, too.
    assert compare(*sorted(runs[0].parent.iterdir())) == 0


def test_a_comparison_of_other_runs_is_kept(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(*runs, f"--out={out}") == 0
    third = make_run(tmp_path / "runs/third", {"iql": [[8, 12], [4, 4]]})
    capsys.readouterr()
    before = (out / "comparison.csv").read_bytes()
    line = refused(capsys, *runs, third, "--out", out)
    assert line == f"tskd-jax: {out}: holds a comparison of other runs; choose another --out"
    assert (out / "comparison.csv").read_bytes() == before
    assert compare(*runs, third, f"--out={out}/more", "--subject=bc") == 0
    assert "gain: how far the mean of BC is above" in capsys.readouterr().out


def test_a_folder_has_several_spellings(runs, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert compare(*runs, f"--out={out}") == 0
    (tmp_path / "link").symlink_to(runs[0])
    monkeypatch.chdir(runs[0].parent)
    for one in ("one", "./one/", "../runs/one", tmp_path / "link"):
        assert compare(one, "other", f"--out={out}") == 0
    capsys.readouterr()
    for one in ("one/", "../runs/one", tmp_path / "link"):
        assert refused(capsys, runs[0], one).endswith(": given twice")


def test_several_datasets(runs, tmp_path, capsys):
    far = make_run(tmp_path / "runs/far", {"tskd": [[1, 2], [3, 4]]}, "other")
    assert "--across_datasets compares them" in refused(capsys, *runs, far)
    out = tmp_path / "out"
    assert compare(*runs, far, "--across_datasets", f"--out={out}") == 0
    assert (out / "profile.png").exists()
    assert "all datasets: normalised score" in capsys.readouterr().out


def test_in_a_locale_that_lacks_characters(runs):
    command = [sys.executable, "-m", "tskd_jax", "compare", *map(str, runs)]
    ascii_ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(command, env=os.environ | ascii_, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    text = (runs[0].parent / "comparison/comparison.md").read_text(encoding="utf-8")
    assert " ± " in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "takes two runs or more, by their folders"),
        (["ONE"], "takes two runs or more, by their folders"),
        (["ONE", "ONE/summary.json"], "summary.json: no folder; give the --workdir of a run"),
        (["ONE", "OTHER/.."], "holds no finished run (no summary.json)"),
        (["ONE", "ONE"], "given twice"),
        (["ONE", "OTHER", "--labels=a"], "--labels: 1 for 2 runs"),
        (["ONE", "OTHER", "--subject=iql"], "iql is not on every dataset; --subject takes one of"),
        (["ONE", "OTHER", "--across"], "Unknown command line flag 'across'"),
        (["ONE", "OTHER", "--out=ONE/summary.json"], "summary.json"),
    ],
)
def test_what_is_wrong_is_one_line(runs, words, said, capsys):
    places = {"ONE": str(runs[0]), "OTHER": str(runs[1])}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    assert said in refused(capsys, *words)


def test_help(capsys):
    assert compare("--help") == 0
    assert "--across_datasets" in capsys.readouterr().out
